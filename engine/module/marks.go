package module

import (
	"fmt"

	"runner/engine/lang"
)

// marks lists what says on a device that runner made it: accounts, sudo rules
// and keys, with what they are now. It is what a scan compares with the store.
func marks() *Module {
	return &Module{
		Name:    "marks",
		Summary: "List what bears a mark of runner: accounts, sudo rules, keys; and accounts that are asked for",
		Examples: []string{
			"name: List what runner made\nregister: made\nmarks: {}",
		},
		ReadOnly: true,
		Args: []Field{
			{Name: "names", Type: listOf, Default: []string{}, Doc: "accounts that are listed without a mark, too", Example: "[jit-abc]"},
			{Name: "uids", Type: listOf, Default: []string{}, Doc: "numeric ids whose accounts are listed without a mark, too", Example: "['70001']"},
			{Name: "first", Type: lang.Int, Default: int64(0), Doc: "first numeric id of a range whose accounts are all listed", Example: "70000"},
			{Name: "last", Type: lang.Int, Default: int64(0), Doc: "last numeric id of that range", Example: "79999"},
		},
		Outputs: []Field{
			{Name: "items", Type: listOf, Doc: "what was found, at most 2000 accounts, tabs between: account, name, uid, locked, open or none (no shadow line), day since 1970 on which it expires, shell, groups, members of its own group, home, GECOS; sudoers, file, account of its first rule, mark; key, path of the file, colon, line; more when there are others"},
			{Name: "clock", Type: lang.Int, Doc: "the device's clock, seconds since 1970"},
			{Name: "machine", Type: lang.String, Doc: "the device's own id, from /etc/machine-id; empty when it has none"},
		},
		Check: func(a Args) error {
			for _, n := range a.List("names") {
				if err := checkKnown(Args{"names": n}, "names"); err != nil {
					return err
				}
			}
			for _, n := range a.List("uids") {
				if !decimal(n) {
					return fmt.Errorf("uids: %q is not a number", n)
				}
			}
			return first(checkUID(a, "first"), checkUID(a, "last"))
		},
	}
}

// winMarks is marks for Windows, where the description of an account is its mark,
// and its own expiry says until when.
func winMarks() *Module {
	return &Module{
		Name:     "win_marks",
		Summary:  "List local accounts that bear a mark of runner, and accounts that are asked for",
		Examples: []string{"name: List what runner made\nregister: made\nwin_marks: {}"},
		ReadOnly: true,
		Args: []Field{
			{Name: "names", Type: listOf, Default: []string{}, Doc: "accounts that are listed without a mark, too", Example: "[jit-abc]"},
			{Name: "sids", Type: listOf, Default: []string{}, Doc: "SIDs whose accounts are listed without a mark, too", Example: "[S-1-5-21-1004336348-1177238915-682003330-1001]"},
		},
		Outputs: []Field{
			{Name: "items", Type: listOf, Doc: "what was found, tabs between: account, name, SID, locked or open, never or the UTC time from which it is expired, SIDs of its local groups, description"},
			{Name: "clock", Type: lang.Int, Doc: "the device's clock, seconds since 1970"},
		},
		Check: func(a Args) error {
			for _, n := range a.List("names") {
				if err := checkWinName(Args{"names": n}, "names"); err != nil {
					return err
				}
			}
			for _, s := range a.List("sids") {
				if err := checkSID(Args{"sid": s}); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func decimal(s string) bool {
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 10
}
