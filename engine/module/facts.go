package module

import (
	"runner/engine/lang"
)

// facts reads what kind of device this is.
func facts() *Module {
	return &Module{
		Name:    "facts",
		Summary: "Read what kind of device this is: system, versions, clock",
		Examples: []string{
			`name: Read what the device is
register: machine
facts: {}`,
		},
		ReadOnly: true,
		Outputs: []Field{
			{Name: "os_family", Type: lang.String, Doc: "debian, redhat, suse, alpine, arch, or the id"},
			{Name: "id", Type: lang.String, Doc: "ID of os-release"},
			{Name: "version", Type: lang.String, Doc: "VERSION_ID of os-release"},
			{Name: "kernel", Type: lang.String, Doc: "kernel release"},
			{Name: "arch", Type: lang.String, Doc: "machine, as uname -m says it"},
			{Name: "hostname", Type: lang.String, Doc: "host name"},
			{Name: "uid", Type: lang.Int, Doc: "uid that the steps run as"},
			{Name: "clock", Type: lang.Int, Doc: "the device's clock, seconds since 1970"},
			{Name: "tz", Type: lang.String, Doc: "offset of its time zone, such as +0100"},
			{Name: "sudo", Type: lang.String, Doc: "version of sudo, or empty"},
			{Name: "sshd", Type: lang.String, Doc: "version of OpenSSH's server, or empty"},
			{Name: "has_sudo", Type: lang.Bool, Doc: "sudo is there"},
			{Name: "has_visudo", Type: lang.Bool, Doc: "visudo is there"},
			{Name: "has_useradd", Type: lang.Bool, Doc: "the account tools of shadow-utils are there"},
			{Name: "has_loginctl", Type: lang.Bool, Doc: "loginctl is there"},
			{Name: "has_systemd", Type: lang.Bool, Doc: "systemd runs the device"},
		},
	}
}
