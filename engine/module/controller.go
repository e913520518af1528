package module

import (
	"context"

	"runner/engine/lang"
)

// debug says something in the log.
func debug() *Module {
	return &Module{
		Name:    "debug",
		Summary: "Say something in the log",
		Examples: []string{
			`name: Say who
debug: 'uid {{ account.uid }}'`,
		},
		ReadOnly: true,
		Free:     "msg",
		Args:     []Field{{Name: "msg", Type: lang.String, Required: true, Doc: "what to say", Example: "uid is {{ account.uid }}"}},
		Control: func(_ context.Context, c Control) (Outcome, error) {
			return Outcome{Message: c.Args.String("msg")}, nil
		},
	}
}

// fail ends the template.
func fail() *Module {
	return &Module{
		Name:    "fail",
		Summary: "Fail with a message",
		Examples: []string{
			`name: Refuse accounts of the system
when: account.uid < 1000
fail: '{{ params.username }} is an account of the system'`,
		},
		ReadOnly: true,
		Free:     "msg",
		Args:     []Field{{Name: "msg", Type: lang.String, Required: true, Doc: "why", Example: "this device is not ready"}},
		Control: func(_ context.Context, c Control) (Outcome, error) {
			return Outcome{Failed: true, Message: c.Args.String("msg")}, nil
		},
	}
}

// assert is carried out by the executor: its conditions are expressions.
func assert() *Module {
	return &Module{
		Name:    "assert",
		Summary: "Fail unless all conditions hold",
		Examples: []string{
			`name: It is an account of people
assert:
  - that: account.exists
    msg: 'there is no account {{ params.username }}'
  - account.uid >= 1000`,
		},
		ReadOnly: true,
		Args: []Field{
			{Name: "that", Type: lang.Any, Required: true, Doc: "a condition, or a list of conditions or of maps with that and msg", Example: "account.uid >= 1000"},
			{Name: "msg", Type: lang.String, Doc: "what to say when it does not hold", Example: "the uid is in the system range"},
		},
	}
}

// setFact is carried out by the executor: the author chooses the names.
func setFact() *Module {
	return &Module{
		Name:    "set_fact",
		Summary: "Name computed values; they are read as the outputs of the step",
		Examples: []string{
			`name: Name what is used twice
register: place
set_fact:
  base: '/srv/{{ grant.account }}'
  private: !expr account.uid >= 1000`,
		},
		ReadOnly: true,
	}
}

// revert is carried out by the executor: it knows the recorded changes.
func revert() *Module {
	return &Module{
		Name:    "revert",
		Summary: "Undo the recorded changes of the creation, newest first, each only if it still is as the creation left it",
		Examples: []string{
			`name: Undo what the creation changed
register: back
revert:
  of: created
  except: [user]`,
		},
		Args: []Field{
			{Name: "of", Type: lang.String, Default: "created", Enum: []string{"created"}, Doc: "whose changes", Example: "created"},
			{Name: "except", Type: listOf, Default: []string{}, Doc: "modules whose changes are left to other steps", Example: "[user]"},
			{Name: "conflict", Type: lang.String, Default: "warn", Enum: []string{"warn", "fail", "force"}, Doc: "what to do about objects that somebody changed since: leave and say so, leave and fail, undo anyway", Example: "fail"},
		},
		Outputs: []Field{
			{Name: "undone", Type: listOf, Doc: "objects that were put back"},
			{Name: "conflicts", Type: listOf, Doc: "objects that somebody changed since"},
			{Name: "kept", Type: listOf, Doc: "objects that are left to other grants, which want them as well"},
			{Name: "already", Type: listOf, Doc: "objects that were as before when it looked, or gone: somebody else, or an earlier step, took the change back"},
		},
	}
}
