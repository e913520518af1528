package ssh

import (
	"context"
	"fmt"
	"time"
)

// patience bounds ending what runs on a device.
const killPatience = 15 * time.Second

// kill ends every process of the coordinator c, by a second session on the same
// connection with the same rights: its group, its session and its descendants
// are stopped first, so that none escapes by forking, and then killed. file is
// the progress file to remove, or empty.
func (n *conn) kill(ctx context.Context, c *coordinator, account string, forget bool, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killPatience)
	defer cancel()
	k, err := n.launch(ctx, account)
	if err != nil {
		return err
	}
	defer k.close()
	program := reaping + fmt.Sprintf("\n__open '' '' ''\n__reap %s %s %s %s\n", quote(c.pid), quote(c.pgid), quote(c.start), quote(c.sid))
	if forget && name != "" {
		program += fmt.Sprintf("__dir && rm -f \"$__pd/\"%s\n", quote(name))
	}
	go func() { _ = k.send(program + "__shut\n") }()
	eofs := 0
	for {
		select {
		case it := <-k.items:
			switch {
			case it.eof:
				if eofs++; eofs == 2 {
					return errEnded
				}
			case len(it.frame) > 0 && it.frame[0] == "Z":
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// progressName is the name of a batch's file in the progress folder.
func progressName(scope, id string) string {
	if id == "" || scope == "" {
		return ""
	}
	return scope + "." + id
}
