package winrm

// CmdScript is what powershell.exe is started with in a cmd shell.
func CmdScript() string { return compact(cmdSource) }

// Waiting returns how many places on pools are reserved.
func (d *Dialer) Waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for e := range d.open {
		n += e.uses
	}
	return n
}
