package store

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// remote names the file systems on which several processes cannot share a
// SQLite database in WAL mode, or on which flock says nothing about other
// machines, by the magic numbers of statfs(2).
var remote = map[uint32]string{
	0x00006969: "nfs",
	0x0000517b: "smb",
	0xff534d42: "cifs",
	0xfe534d42: "smb2",
	0x65735546: "fuse",
	0x00c36400: "ceph",
	0x5346414f: "afs",
	0x6b414653: "afs",
	0x73757245: "coda",
	0x0000564c: "ncp",
	0x01021997: "9p",
	0x0bd00bd0: "lustre",
	0x01161970: "gfs2",
	0x7461636f: "ocfs2",
	0x47504653: "gpfs",
	0xaad7aaea: "panfs",
	0x786f4256: "vboxsf",
	0xbacbacbc: "vmhgfs",
	0x19830326: "beegfs",
	0x20030528: "orangefs",
}

// localOnly refuses a directory on a network or FUSE file system.
func localOnly(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("store: statfs %s: %w", dir, err)
	}
	return refuseRemote(dir, uint32(st.Type)) //nolint:gosec // the magic numbers have 32 bits
}

func refuseRemote(dir string, magic uint32) error {
	if name, ok := remote[magic]; ok {
		return fmt.Errorf("store: %s is on a %s file system, where SQLite's locks do not hold: put the state on a local disk", dir, name)
	}
	return nil
}

// noRoom reports whether the disk of dir has less room than SQLite takes at once.
func noRoom(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Bavail*uint64(st.Bsize) < 64<<10 //nolint:gosec // a block has some bytes
}
