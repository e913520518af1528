# A module whose only content is the folder RoleCapabilities: Windows looks for
# role capability files in modules.
@{
    ModuleVersion = '1.0'
    GUID = 'a2d0c1d6-5f53-4d0c-8a7f-3a0a4f5d7b42'
    Author = 'runner'
    Description = 'Role capability of the endpoint runner.jit'
    FunctionsToExport = @()
    CmdletsToExport = @()
}
