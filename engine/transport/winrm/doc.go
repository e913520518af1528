// Package winrm is the transport to Windows: it keeps one runspace pool for each
// device and identity, renders batches as PowerShell, one pipeline for each, and
// reads typed events back. It owns what is said to PowerShell; the protocols are
// in the packages below it. It refuses to know modules, templates or grants, to
// put a value of a batch into the text of a script, and to send anything twice.
package winrm
