package module_test

import (
	"testing"

	"runner/engine/module"
)

func TestOnlyTheEdgesThatAreAskedForChange(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		d.sh(t, "useradd -m -u 6000 other; useradd -m -u 6001 jit-abcd; groupadd -g 6100 ops; gpasswd -a other ops; gpasswd -a jit-abcd ops; gpasswd -A other ops")
		d.ok(t, "user", account())
		d.sh(t, "gpasswd -a "+acct+" adm")
		join := module.Args{"user": acct, "groups": []string{"adm", "ops", "brand.new", acct}, "missing_group": "create"}
		r := d.twice(t, "group_member", join, nil)
		if r.out["added"] != "ops\nbrand.new" || r.out["already"] != "adm\n"+acct || r.out["created"] != "brand.new" {
			t.Errorf("outputs %q", r.out)
		}
		if got := d.sh(t, "id -Gn "+acct+" | tr ' ' '\\n' | sort | tr '\\n' ' '; getent group ops"); got != "adm "+acct+" ops:x:6100:other,jit-abcd" {
			t.Errorf("after the undo: %q", got)
		}
		d.refused(t, "group_member", module.Args{"user": acct, "groups": []string{"ops", "nowhere"}}, "no group nowhere")
		d.refused(t, "group_member", module.Args{"user": "nobody-here", "groups": []string{"ops"}}, "no account")
		d.refused(t, "group_member", module.Args{"user": acct, "groups": []string{"a;b"}}, "not an account or group name")
		d.refused(t, "group_member", module.Args{"user": acct, "groups": []string{acct}, "state": "absent"}, "primary group")
		d.ok(t, "group_member", module.Args{"user": acct, "groups": []string{"ops"}})
		r = d.ok(t, "group_member", module.Args{"user": acct, "groups": []string{"ops", "nowhere"}, "state": "absent"})
		if !r.changed || r.out["added"] != "ops" || r.state[0] != "absent" {
			t.Errorf("%+v", r)
		}
	})
}

func TestGroupIsCreatedAndDeletedByItsNumber(t *testing.T) {
	t.Parallel()
	onEveryShell(t, func(t *testing.T, d *device) {
		args := module.Args{"name": "ops", "gid": int64(7100)}
		if r := d.twice(t, "group", args, nil); r.out["gid"] != "7100" {
			t.Errorf("outputs %v", r.out)
		}
		d.ok(t, "group", args)
		d.refused(t, "group", module.Args{"name": "ops", "gid": int64(7101)}, "exists with gid 7100")
		d.refused(t, "group", module.Args{"name": "ops", "gid": int64(7101), "state": "absent"}, "another group")
		d.refused(t, "group", module.Args{"name": "adm", "state": "absent"}, "system gid")
		d.sh(t, "gpasswd -a daemon ops")
		if r := d.ok(t, "group", module.Args{"name": "ops", "state": "absent", "if_empty": true}); r.changed {
			t.Error("a group with members went away")
		}
		if r := d.ok(t, "group", module.Args{"name": "ops", "state": "absent"}); !r.changed || r.state[0] != "absent" {
			t.Errorf("%+v", r)
		}
	})
}
