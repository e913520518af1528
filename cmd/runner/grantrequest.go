package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/lang"
	"runner/engine/template"
)

// sweepEvery is the interval of the timer that init suggests. A request warns
// when nobody served or swept within two of them.
const sweepEvery = time.Minute

// request is what grant request was asked for.
type request struct {
	app    *app
	ask    engine.Ask
	params []string
	noWait bool
	plan   bool
	keyOut string

	eng  *engine.Engine
	key  *os.File // keyOut, from before the device is touched
	open bool     // the requester has the secret already: a public key was given
}

func (a *app) grantRequest() *cobra.Command {
	r := &request{app: a}
	c := leaf{
		use: "request CREDENTIAL", short: "ask for access and get the account",
		example: `runner grant request web-admin --for 1h --reason "INC-42"
runner grant request web-admin -p public_key=@~/.ssh/id_ed25519.pub
runner grant request web-admin -o json --key-out ./key
runner grant request web-admin --plan`,
		long: `The account is made in this process, and its secret is printed once: on a terminal,
or with -o json or yaml; otherwise only the id is, and runner grant collect prints
the secret. Interrupting the command ends the grant and removes the account.

The requester is the user who runs the command. --requester is for root and the
operators of the workspace, and is recorded with who really asked.

-p gives a parameter of the template: key=value, key=@FILE, or key=@- for standard
input; key=@@text is the text @text. Secrets are not taken from the command line.

--plan shows what would be done now, tried in check mode on the device, and what would
be done at the removal. Nothing is changed and no grant is stored.`,
		args:  needs("CREDENTIAL"),
		exits: []int{exitFile, exitDenied, exitApproval, exitUnreached, exitUndone, exitLeft, exitInterrupted},
		run: func(ctx context.Context, args []string) error {
			r.ask.Credential = args[0]
			return r.run(ctx)
		},
	}.command()
	fs := c.Flags()
	fs.DurationVar(&r.ask.For, "for", 0, "how long, such as 30m or 2h (default: what the credential says)")
	fs.StringVar(&r.ask.Reason, "reason", "", "why, for those who read the audit")
	fs.StringVar(&r.ask.Requester, "requester", "", "for whom (operators only)")
	fs.StringArrayVarP(&r.params, "param", "p", nil, "parameter of the template, key=value or key=@FILE")
	fs.BoolVar(&r.ask.GenerateKey, "generate-key", false, "make a key pair for the grant instead of a password")
	fs.StringVar(&r.keyOut, "key-out", "", "write the private key of the pair to this new file, mode 0600 (implies --generate-key)")
	fs.BoolVar(&r.plan, "plan", false, "only show what would be done, now and at the removal")
	fs.BoolVar(&r.noWait, "no-wait", false, "only store the request and print its id; runner serve makes the account")
	return c
}

func (r *request) run(ctx context.Context) (err error) {
	a := r.app
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if r.plan {
		return r.show(ctx)
	}
	defer func() { err = errors.Join(err, r.dropKey()) }()
	c, err := r.eng.Request(ctx, r.ask)
	if err != nil {
		return err
	}
	if err := a.warnUnattended(context.WithoutCancel(ctx)); err != nil { // what is stored now has to be ended
		return err
	}
	if r.noWait {
		v := viewGrant(&c, a.now())
		a.hint("runner grant collect %s prints the secret once the grant is active", v.ID)
		return a.answer(v, func(w io.Writer) { _, _ = fmt.Fprintln(w, v.ID) })
	}
	if c, err = r.create(ctx, c); err != nil {
		return err
	}
	return r.conclude(ctx, c)
}

// prepare finds out who asks and with what.
func (r *request) prepare(ctx context.Context) error {
	a := r.app
	given, err := readParams(r.params, a.stdin)
	if err != nil {
		return err
	}
	r.ask.Params = given.values
	_, r.open = given.values["public_key"]
	if r.open && (r.ask.GenerateKey || r.keyOut != "") {
		return usagef("-p public_key and a generated key pair exclude each other")
	}
	if r.noWait && r.keyOut != "" {
		return usagef("--key-out needs to wait for the grant: leave --no-wait out, and give --key-out to runner grant collect")
	}
	who, err := a.who()
	if err != nil {
		return err
	}
	r.ask.Caller, r.ask.Operator = who.name, who.operator
	if r.ask.Requester == "" {
		r.ask.Requester = who.name
	}
	if r.plan {
		r.eng, err = a.planning()
	} else {
		r.eng, err = a.requesting(ctx)
	}
	if err != nil {
		return err
	}
	if cred := r.eng.Inventory.Credentials[r.ask.Credential]; cred != nil {
		if err := r.fit(cred, given); err != nil {
			return err
		}
	}
	return r.makeKeyFile()
}

// fit reads the params as the templates of the credential take them. What is
// wrong with a template otherwise the request says.
func (r *request) fit(cred *inventory.Credential, given givenParams) error {
	slots := map[template.Kind]string{template.Elevate: cred.JIT.Elevate}
	if cred.JIT.Creates() {
		slots[template.Create] = cred.JIT.Create
	}
	for kind, name := range slots {
		if name == "" {
			continue
		}
		t, err := r.eng.Templates.Get(kind, name)
		if ps, is := errors.AsType[lang.Problems](err); is {
			return ps
		}
		if err == nil {
			err = given.fit(t)
		}
		if _, is := errors.AsType[*usageError](err); is {
			return err
		}
		if err == nil && kind == template.Create {
			r.warnOfLeftovers(cred, t)
		}
	}
	return nil
}

// warnOfLeftovers says what the removal of the grant will leave, as far as that
// shows in the templates.
func (r *request) warnOfLeftovers(cred *inventory.Credential, create *template.Template) {
	removal, err := r.eng.Templates.Get(template.Delete, cmp.Or(cred.JIT.Delete, create.Removal))
	if err != nil {
		return // the request says so
	}
	ps := template.Uncovered(create, removal)
	for i := range ps {
		r.app.warn("%s", problem(ps[i:i+1]))
	}
	if len(ps) > 0 && removal.Name == create.Removal {
		r.app.hint("runner template verify create/%s tries the two on a throw-away machine", create.Name)
	}
}

// makeKeyFile makes the file of --key-out, so that a name that cannot be used
// is found before the device is touched.
func (r *request) makeKeyFile() (err error) {
	if r.keyOut == "" {
		return nil
	}
	r.ask.GenerateKey = true
	if r.plan {
		return nil
	}
	r.key, err = newKeyFile(r.keyOut)
	return err
}

func newKeyFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, usagef("--key-out %s: there is such a file already, and it is not overwritten", path)
	}
	if err != nil {
		return nil, usagef("--key-out: %v", err)
	}
	return f, nil
}

// dropKey removes the file of --key-out when no key was written to it.
func (r *request) dropKey() error {
	if r.key == nil {
		return nil
	}
	return errors.Join(r.key.Close(), os.Remove(r.key.Name()))
}

// warnUnattended warns when nothing seems to remove grants that expire.
func (a *app) warnUnattended(ctx context.Context) error {
	s, err := a.store()
	if err != nil {
		return err
	}
	for _, what := range []string{markServed, markSwept} {
		at, err := s.Marked(ctx, what)
		if err != nil {
			return err
		}
		if a.now().Sub(at) < 2*sweepEvery {
			return nil
		}
	}
	a.warn("nobody served or swept for over %s, so what expires is not removed from here", span(2*sweepEvery))
	a.hint("run runner serve, or runner sweep every minute from a timer")
	return nil
}

// create makes the account, or waits for the process that is faster. When ctx
// ends it ends the grant, and returns when the creation has stopped.
func (r *request) create(ctx context.Context, c grant.Case) (grant.Case, error) {
	a, id := r.app, c.Grant.ID
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		defer cut()
		a.say("interrupted: ending grant %s (interrupt again to leave its removal to runner sweep)", id)
		if _, err := r.eng.End(work, id, r.ask.Caller, "end"); err != nil {
			a.warn("%s", problem(err))
		}
	})
	defer func() {
		if !stop() {
			<-ended
		}
	}()
	for c.Grant.State == grant.Requested || c.Grant.State == grant.Creating {
		if c.Grant.State == grant.Requested {
			out, err := r.eng.RunJob(work, c.Forward().ID)
			if err == nil {
				return out, nil
			}
			if !anothers(err) {
				return c, err
			}
		}
		a.doing("waiting for another job on " + c.Grant.Device)
		_ = pause(work, pollEvery) // at its end the grant is read once more
		keep := context.WithoutCancel(ctx)
		if _, err := r.eng.Reap(keep); err != nil { // what is waited for may be dead
			return c, err
		}
		if err := r.eng.Store.Change(keep, id, func(c *grant.Case) error { c.Expire(a.now()); return nil }); err != nil {
			return c, err
		}
		var err error
		if c, err = r.eng.Store.Case(keep, id); err != nil {
			return c, err
		}
	}
	return c, nil
}

// anothers reports that another process works on the grant or its device.
func anothers(err error) bool {
	if _, is := errors.AsType[*grant.StateError](err); is {
		return true
	}
	return errors.Is(err, grant.ErrNotDue) || errors.Is(err, grant.ErrBusy) || errors.Is(err, grant.ErrLeaseLost)
}

// conclude hands the secret out, or removes what a creation left.
func (r *request) conclude(ctx context.Context, c grant.Case) error {
	a := r.app
	switch {
	case c.Grant.State == grant.WaitingApproval:
		a.say("grant %s waits for approval", c.Grant.ID)
		return exitWith(exitApproval)
	case c.Grant.State == grant.Active && ctx.Err() == nil:
		return r.handOver(ctx, &c)
	}
	keep := context.WithoutCancel(ctx) // the second signal ends the process
	var err error
	if c.Grant.State == grant.Active {
		if c, err = r.eng.End(keep, c.Grant.ID, r.ask.Caller, "end"); err != nil {
			return err
		}
	}
	if c, err = a.finish(keep, r.eng, c); err != nil {
		return err
	}
	if a.machine() {
		if err := a.answer(viewGrant(&c, a.now()), nil); err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		return a.explainFailure(keep, &c)
	}
	switch {
	case c.Grant.State == grant.Cancelled:
		a.say("grant %s is cancelled, nothing was changed on %s", c.Grant.ID, c.Grant.Device)
	case c.Grant.State.Final():
		a.say("grant %s is ended, account %s is removed from %s", c.Grant.ID, c.Grant.Account, c.Grant.Device)
	default:
		a.explainLeft(&c)
	}
	return exitWith(exitInterrupted)
}

// handOver prints the secret of an active grant where it may be printed.
func (r *request) handOver(ctx context.Context, c *grant.Case) error {
	a := r.app
	if !c.Grant.Creates {
		v := viewGrant(c, a.now())
		return a.answer(v, func(w io.Writer) {
			fields(w, field{"grant", v.ID}, field{"account", v.Account + " on " + v.Device}, field{"expires", a.when(v.Expires)},
				field{"log in", "as before; what was added counts for new logins"}, field{"end it", "runner grant end " + v.ID})
		})
	}
	if !a.mayPrint() && r.key == nil && !r.open {
		a.say("grant %s is active until %s; its secret is not printed, because stdout is not a terminal", c.Grant.ID, stamp(c.Grant.Expires))
		a.hint("runner grant collect %s -o json", c.Grant.ID)
		_, err := fmt.Fprintln(a.stdout, c.Grant.ID)
		return err
	}
	key := r.key
	r.key = nil
	return a.collect(ctx, r.eng, c.Grant.ID, r.ask.Caller, key)
}

// mayPrint reports whether a secret may go to stdout.
func (a *app) mayPrint() bool { return a.machine() || a.outTTY }

func (a *app) grantCollect() *cobra.Command {
	var keyOut string
	c := leaf{
		use: "collect GRANT", short: "print the secret of an active grant, once",
		example: "runner grant collect g-abc\nrunner grant collect g-abc -o json\nrunner grant collect g-abc --key-out ./key",
		long:    "It is printed on a terminal, or with -o json or yaml. Nobody gets it twice.",
		args:    needs("GRANT"), exits: []int{exitDenied},
		run: func(ctx context.Context, args []string) error {
			if !a.mayPrint() && keyOut == "" {
				return usagef("the secret is printed on a terminal or with -o json or yaml, and stdout is neither")
			}
			e, err := a.removing(ctx)
			if err != nil {
				return err
			}
			g, who, err := a.held(ctx, e, args[0], "collect its secret")
			if err != nil {
				return err
			}
			var key *os.File
			if keyOut != "" {
				if key, err = newKeyFile(keyOut); err != nil {
					return err
				}
			}
			return a.collect(ctx, e, g.Grant.ID, who.name, key)
		},
	}.command()
	c.Flags().StringVar(&keyOut, "key-out", "", "write the private key to this new file, mode 0600")
	return c
}

// collect hands the secret out. A private key goes into the file key, which
// is closed, and removed when there is none.
func (a *app) collect(ctx context.Context, e *engine.Engine, id, actor string, key *os.File) error {
	c, s, err := e.Collect(ctx, id, actor)
	if err != nil {
		if key != nil {
			err = errors.Join(err, key.Close(), os.Remove(key.Name()))
		}
		return err
	}
	v := secretJSON{
		Grant: c.Grant.ID, State: string(c.Grant.State), Account: s.Account, Password: s.Password, PrivateKey: s.PrivateKey,
		Address: s.Address, Port: s.Port, Platform: s.Platform, Expires: c.Grant.Expires,
	}
	if key != nil {
		if v.PrivateKey == "" {
			a.warn("the grant has no private key, so %s is not written", key.Name())
			err = errors.Join(key.Close(), os.Remove(key.Name()))
		} else {
			_, werr := io.WriteString(key, v.PrivateKey)
			err = errors.Join(werr, key.Sync(), key.Close())
			if err == nil {
				v.PrivateKey, v.KeyFile = "", absolute(key.Name())
			}
		}
	}
	if !a.mayPrint() && v.Password+v.PrivateKey != "" {
		v.Password, v.PrivateKey = "", ""
		a.warn("the secret is not printed, because stdout is not a terminal; it cannot be collected again")
	}
	// What was handed out is gone from the store: it is printed whatever happened.
	return errors.Join(a.answer(v, func(w io.Writer) { a.describeSecret(w, &v) }), err)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func (a *app) describeSecret(w io.Writer, v *secretJSON) {
	how := "mstsc /v:" + v.Address + ", as .\\" + v.Account
	if v.Platform != "windows" {
		how = sshCommand(v)
	}
	fields(w, field{"grant", v.Grant}, field{"account", v.Account}, field{passwordField, v.Password},
		field{"address", fmt.Sprintf("%s port %d", v.Address, v.Port)}, field{"key file", v.KeyFile}, field{"expires", a.when(v.Expires)},
		field{"log in", how}, field{"end it", "runner grant end " + v.Grant})
	if v.PrivateKey != "" {
		_, _ = fmt.Fprint(w, "\n"+v.PrivateKey)
	}
}

func sshCommand(v *secretJSON) string {
	ssh := "ssh "
	if v.Port != 22 {
		ssh += fmt.Sprintf("-p %d ", v.Port)
	}
	if v.KeyFile != "" {
		ssh += "-i " + v.KeyFile + " "
	}
	return ssh + v.Account + "@" + v.Address
}
