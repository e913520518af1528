package module_test

import (
	"strings"
	"testing"

	"runner/engine/module"
)

func TestFolderIsMadeAndTakenAway(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		args := module.Args{"path": "/srv/a b", "mode": "0750", "owner": "daemon", "group": "adm"}
		r := d.twice(t, "file", args, nil)
		if !strings.HasPrefix(r.state[0], "750 1 4 directory") {
			t.Errorf("state %q", r.state[0])
		}
		d.twice(t, "file", module.Args{"path": "/srv/f", "state": "file"}, nil)
		d.sh(t, "mkdir -p /srv/mine/sub /srv/m2; touch /srv/mine/f; chmod 700 /srv/mine; useradd -M -u 6000 evil; mkdir /srv/evil; chown evil /srv/evil")
		if r := d.ok(t, "file", module.Args{"path": "/srv/mine", "mode": "0777"}); r.changed {
			t.Error("an adopted folder was changed")
		}
		d.refused(t, "file", module.Args{"path": "/srv/mine", "exists": "fail"}, "exists already")
		d.refused(t, "file", module.Args{"path": "/srv/mine/f"}, "not a directory")
		d.refused(t, "file", module.Args{"path": "/srv/mine", "state": "absent"}, "")
		d.refused(t, "file", module.Args{"path": "/etc", "state": "absent", "recursive": true}, "never changed")
		d.refused(t, "file", module.Args{"path": "/srv/../etc"}, "absolute path")
		d.refused(t, "file", module.Args{"path": "/srv/evil/x"}, "does not belong to root")
		if r := d.ok(t, "file", module.Args{"path": "/srv/mine", "mode": "0711", "exists": "update"}); !r.changed || !strings.HasPrefix(r.state[0], "711 ") {
			t.Errorf("%+v", r)
		}
		d.sh(t, "mount --bind /srv/m2 /srv/mine/sub; touch /srv/m2/keep")
		if r := d.run(t, "apply", "file", module.Args{"path": "/srv/mine", "state": "absent", "recursive": true}); r.rc == 0 {
			t.Error("deleted below a mount point")
		}
		d.sh(t, "test -e /srv/m2/keep; test -e /srv/mine/f; umount /srv/mine/sub")
		if r := d.ok(t, "file", module.Args{"path": "/srv/mine", "state": "absent", "recursive": true}); !r.changed || r.state[0] != "absent" {
			t.Errorf("%+v", r)
		}
	})
}

func TestContentArrivesAsItIs(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		content := "a'b\"$(touch /srv/pwned)`id`\\n%s\n\n  x\ttab\n" + strings.Repeat("0123456789abcdef", 2000) + "\n\n"
		args := module.Args{"dest": "/srv/file", "content": content, "mode": "0640", "group": "adm"}
		d.twice(t, "copy", args, nil)
		d.ok(t, "copy", args)
		if got := d.sh(t, "cat /srv/file; echo end; stat -c '%a %G' /srv/file; ls -A /srv"); got != content+"end\n640 adm\nfile" {
			t.Errorf("got %d bytes ending in %q", len(got), got[max(0, len(got)-60):])
		}
		d.refused(t, "copy", module.Args{"dest": "/srv/file", "content": "other"}, "other content")
		if r := d.ok(t, "copy", module.Args{"dest": "/srv/file", "content": "other", "exists": "update"}); !r.changed {
			t.Error("an update changed nothing")
		}
		d.sh(t, "ln -s /etc/passwd /srv/link")
		d.refused(t, "copy", module.Args{"dest": "/srv/link", "content": "x"}, "other content")
	})
}

func TestHomeIsArchivedOrKept(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.ok(t, "user", account())
		home := "/home/" + acct
		d.sh(t, "echo hello >"+home+"/f; ln -s /etc/shadow "+home+"/l; chown -hR "+acct+": "+home)
		tar := module.Args{"src": home, "dest": "/var/lib/keep/a.tar.gz", "uid": uid}
		d.twice(t, "archive", tar, nil)
		if got := d.sh(t, "stat -c '%a %u' /var/lib/keep/a.tar.gz; tar -xzOf /var/lib/keep/a.tar.gz "+acct+"/f; tar -tvzf /var/lib/keep/a.tar.gz | grep -c 'l -> /etc/shadow'; ls -A /var/lib/keep"); got != "600 0\nhello\n1\na.tar.gz" {
			t.Errorf("archive: %q", got)
		}
		d.twice(t, "archive", module.Args{"src": home, "dest": "/var/lib/keep/tree", "uid": uid, "move": true}, nil)
		if got := d.sh(t, "cat /var/lib/keep/tree/f; stat -c '%a %u' /var/lib/keep/tree; test -e "+home+" || echo moved"); got != "hello\n700 0\nmoved" {
			t.Errorf("kept: %q", got)
		}
		for _, src := range []string{"/etc", "/", home} {
			if r := d.ok(t, "archive", module.Args{"src": src, "dest": "/var/lib/keep/b", "uid": uid, "move": true}); r.changed {
				t.Errorf("%s was moved", src)
			}
		}
	})
}
