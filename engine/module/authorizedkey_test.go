package module_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"runner/engine/module"
)

// logsIn tries the machine's admin key on an account, through its real sshd.
func (d *device) logsIn(tb testing.TB, account string) bool {
	tb.Helper()
	pem, err := os.ReadFile(d.KeyFile())
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		tb.Fatal(err)
	}
	host, _, _, _, err := ssh.ParseAuthorizedKey([]byte(d.HostKey))
	if err != nil {
		tb.Fatal(err)
	}
	c, err := ssh.Dial("tcp", d.Addr, &ssh.ClientConfig{
		User: account, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(host), Timeout: 20 * time.Second,
	})
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func (d *device) publicKey(tb testing.TB) string {
	tb.Helper()
	b, err := os.ReadFile(d.KeyFile() + ".pub")
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestKeyOpensTheAccountUntilItExpires(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.ok(t, "user", account())
		d.sh(t, "mkdir -m 700 /home/"+acct+"/.ssh; echo 'ssh-ed25519 AAAAother me@home' >/home/"+acct+"/.ssh/authorized_keys; chown -R "+acct+": /home/"+acct+"/.ssh")
		if d.logsIn(t, acct) {
			t.Fatal("logs in before the key is there")
		}
		key := module.Args{
			"user": acct, "key": d.publicKey(t), "comment": "runner-g-1", "options": `no-pty,environment="A=b c"`,
			"expires": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		}
		r := d.twice(t, "authorized_key", key, nil)
		if r.out["expiry_form"] != "utc" {
			t.Errorf("outputs %v", r.out)
		}
		d.ok(t, "authorized_key", key)
		if !d.logsIn(t, acct) {
			t.Errorf("the key does not work:\n%s", d.sh(t, "cat /home/"+acct+"/.ssh/authorized_keys"))
		}
		key["expires"] = time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
		d.ok(t, "authorized_key", key)
		if d.logsIn(t, acct) {
			t.Error("the key works after its expiry")
		}
		if got := d.sh(t, "wc -l </home/"+acct+"/.ssh/authorized_keys; stat -c %U:%a /home/"+acct+"/.ssh/authorized_keys"); got != "2\n"+acct+":644" {
			t.Errorf("lines, owner and mode: %q", got)
		}
		key["state"] = "absent"
		if r := d.ok(t, "authorized_key", key); !r.changed {
			t.Error("removing changed nothing")
		}
		if got := d.sh(t, "cat /home/"+acct+"/.ssh/authorized_keys"); got != "ssh-ed25519 AAAAother me@home" {
			t.Errorf("left: %q", got)
		}
		d.sh(t, "userdel -r "+acct)
		if r := d.ok(t, "authorized_key", key); r.changed || r.state[0] != "absent" {
			t.Errorf("of a gone account: %+v", r)
		}
	})
}

func TestKeyIsNotWrittenThroughLinks(t *testing.T) {
	t.Parallel()
	d := start(t, "dash")
	d.ok(t, "user", account())
	home := "/home/" + acct
	key := module.Args{"user": acct, "key": d.publicKey(t)}
	for _, trap := range []string{
		"ln -s /etc .ssh",
		"mkdir .ssh; ln -s /etc/passwd .ssh/authorized_keys",
		"mkdir .ssh; mkfifo .ssh/authorized_keys",
		"mkdir .ssh; mkdir .ssh/authorized_keys",
		"mkdir .ssh; touch .ssh/authorized_keys; chmod 0 .ssh/authorized_keys; chown root: .ssh/authorized_keys",
		"mkdir .ssh; chown root: .ssh; chmod 755 .ssh",
		"touch .ssh",
	} {
		d.sh(t, "cd "+home+"; rm -rf .ssh; "+trap+"; [ \"$(stat -c %u .ssh)\" != 0 ] || chown -h "+acct+": .ssh; case '"+trap+"' in *'chown root: .ssh;'*) chown root: .ssh ;; esac")
		d.refused(t, "authorized_key", key, ".ssh")
	}
	// A hard link is replaced, not written through.
	d.sh(t, "cd "+home+"; rm -rf .ssh; mkdir -m 700 .ssh; echo keep >/home/shared; chmod 644 /home/shared; ln /home/shared .ssh/authorized_keys; chown "+acct+": .ssh")
	d.ok(t, "authorized_key", key)
	if got := d.sh(t, "cat /home/shared"); got != "keep" {
		t.Errorf("the linked file holds %q", got)
	}
}

func TestKeyExpiryTakesTheFormThatSshdKnows(t *testing.T) {
	t.Parallel()
	d := start(t, "bash")
	d.ok(t, "user", account())
	d.sh(t, "ln -sf /usr/share/zoneinfo/Asia/Kolkata /etc/localtime")
	key := module.Args{"user": acct, "key": d.publicKey(t), "expires": "2030-01-31T20:00:01Z"}
	for version, want := range map[string][2]string{
		"OpenSSH_9.2p1 Debian-2": {"utc", `expiry-time="20300131200001Z"`},
		"OpenSSH_10.0p2, OpenSS": {"utc", `expiry-time="20300131200001Z"`},
		"OpenSSH_9.0p1, OpenSSL": {"local", `expiry-time="20300201013001"`},
		"OpenSSH_7.7p1":          {"local", `expiry-time="20300201013001"`},
		"OpenSSH_7.4p1":          {"none", "ssh-"},
	} {
		d.sh(t, "rm -f /usr/sbin/sshd; printf '#!/bin/sh\\necho \""+version+"\" >&2; exit 1\\n' >/usr/sbin/sshd; chmod 755 /usr/sbin/sshd")
		r := d.ok(t, "authorized_key", key)
		got := d.sh(t, "cat /home/"+acct+"/.ssh/authorized_keys")
		if r.out["expiry_form"] != want[0] || !strings.HasPrefix(got, want[1]) || strings.Count(got, "\n") != 0 {
			t.Errorf("%s: %v\n%s", version, r.out, got)
		}
	}
	// The server that let us in has said what it is, and need not be asked.
	d.sh(t, "printf '#!/bin/sh\\nexit 1\\n' >/usr/sbin/sshd")
	for peer, form := range map[string]string{"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10": "utc", "SSH-2.0-OpenSSH_8.9p1": "local", "SSH-2.0-OpenSSH_7.4": "none"} {
		r := d.runAll(t, []call{{raw: "_peer='" + peer + "'"}, {mode: "apply", name: "authorized_key", args: key}})[0]
		if r.rc != 0 || r.out["expiry_form"] != form {
			t.Errorf("%s: exit %d, %v", peer, r.rc, r.out)
		}
	}
	for _, peer := range []string{"SSH-2.0-dropbear_2022.83", "SSH-2.0-OpenSSH_for_Windows_9.5", "SSH-1.99-OpenSSH_9.2p1"} {
		r := d.runAll(t, []call{{raw: "_peer='" + peer + "'"}, {mode: "apply", name: "authorized_key", args: key}})[0]
		if r.rc == 0 || !strings.Contains(r.stdout, "version of sshd") {
			t.Errorf("%s: exit %d, %s", peer, r.rc, r.stdout)
		}
	}
	d.refused(t, "authorized_key", key, "version of sshd")
	delete(key, "expires")
	d.sh(t, "echo 'AuthorizedKeysFile /etc/ssh/keys/%u' >>/etc/ssh/sshd_config; sed -i 's|^AuthorizedKeysFile .ssh.*||' /etc/ssh/sshd_config /etc/ssh/sshd_config.d/* 2>/dev/null || true; rm -rf /home/"+acct+"/.ssh")
	d.refused(t, "authorized_key", key, "does not read")
	// Also after a step that read the databases for something else.
	for _, before := range []call{
		{mode: "apply", name: "user_info", args: account("brief", true)},
		{mode: "apply", name: "password", args: module.Args{"user": acct, "password": "Canary-1"}},
	} {
		rs := d.runAll(t, []call{before, {mode: "apply", name: "authorized_key", args: key}})
		if rs[1].rc == 0 || !strings.Contains(rs[1].stdout, "does not read") {
			t.Errorf("after %s: exit %d, %s", before.name, rs[1].rc, rs[1].stdout)
		}
	}
}
