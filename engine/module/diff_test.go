package module_test

import (
	"strings"
	"testing"

	"runner/engine/module"
)

// What check mode says an object would be is what it then is; nobody who does
// not ask is told.
func TestDiffsTellTheSameBeforeAndAfter(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.sh(t, "useradd -m -u 70001 old; printf 'a\\nb\\n' >/srv/text")
	const (
		end = "2030-01-01T00:00:00Z"
		key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJwZ6yDqfGpcCZP4nQ7nZ9fXo3kqD0v3zZ7nqkWv0Rk"
	)
	for _, c := range []struct {
		module  string
		args    module.Args
		was, is string // parts of what is told
	}{
		{"user", module.Args{"name": "new", "uid": int64(70002), "comment": "c", "expires": end}, "", "uid: 70002\ncomment: c\nhome: /home/new\nshell: /bin/bash\nexpires: 2030-01-01\nlocked: false"},
		{"user", module.Args{"name": "old", "exists": "update", "expires": end, "shell": "nologin"}, "shell: /bin/", "/nologin\nexpires: 2030-01-01\nlocked: true"},
		{"copy", module.Args{"dest": "/srv/text", "content": "a\nc\n", "exists": "update"}, "a\nb", "a\nc"},
		{"copy", module.Args{"dest": "/srv/other", "content": "x"}, "", "x"},
		{"sudoers", module.Args{"file": "x", "rules": []string{"new ALL=(root) NOPASSWD: /usr/bin/id"}, "not_after": end}, "", "new ALL=(root) NOTAFTER=20300101000000Z NOPASSWD: /usr/bin/id"},
		{"authorized_key", module.Args{"user": "new", "key": key}, "", key},
		{"sudoers", module.Args{"file": "x", "state": "absent"}, "NOTAFTER", ""},
		{"authorized_key", module.Args{"user": "new", "key": key, "state": "absent"}, key, ""},
		{"user", module.Args{"name": "old", "state": "absent"}, "uid: 70001", ""},
	} {
		for _, mode := range []string{"check", "apply"} {
			quiet := d.run(t, "check", c.module, c.args)
			c.args["_diff"] = "1"
			r := d.run(t, mode, c.module, c.args)
			delete(c.args, "_diff")
			if !r.changed || !strings.Contains(r.out["was.0"], c.was) || !strings.Contains(r.out["is.0"], c.is) || (c.is == "") != (strings.TrimSpace(r.out["is.0"]) == "") {
				t.Errorf("%s: %s %v: changed %v, was %q, is %q; want %q, then %q\n%s", mode, c.module, c.args, r.changed, r.out["was.0"], r.out["is.0"], c.was, c.is, r.stdout)
			}
			if _, told := quiet.out["is.0"]; told {
				t.Errorf("%s %v tells what nobody asked for", c.module, c.args)
			}
		}
	}
}
