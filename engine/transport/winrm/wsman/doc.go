// Package wsman is a Windows host behind its WinRM listener: it makes shells for
// runspace pools, and runs programs in the cmd shell, over connections of
// package wire in the words of package envelope. It owns how many connections
// there are, what becomes of requests when one is lost, and what the faults of a
// host mean. It refuses to repeat a request of which a byte was written, and to
// know PowerShell.
package wsman
