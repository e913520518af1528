package verify

import (
	"io/fs"
	"syscall"
)

// inode tells whether a file may have other contents than when it was read.
type inode struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// inodeOf returns whose a file is and which it is.
func inodeOf(info fs.FileInfo) (id inode, uid, gid uint32, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return id, 0, 0, false
	}
	return inode{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, st.Uid, st.Gid, true
}
