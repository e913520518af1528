package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/inventory/jit"
	"runner/engine/secret"
	"runner/engine/template"
)

// launch is what launch was asked for: a request, and a session.
type launch struct {
	request
	way   jit.Asked
	keep  *engine.Keeping
	began time.Time
	held  grant.Session
	calm  func() // ends the signs of life from before the session is attended

	record  string // what the credential has recorded
	program *local // that gets the account; nil: a shell on the device
	// own is how an account that was there before logs in; nil: one is made.
	own *inventory.Connection
}

func (a *app) launchCommand() *cobra.Command {
	l := &launch{request: request{app: a}, calm: func() {}}
	var (
		c       *cobra.Command
		profile string
	)
	c = leaf{
		use: "launch CREDENTIAL [-- COMMAND [ARG]...]", short: "open a session on a device, with an account made for it",
		example: `runner launch web-admin --reason "INC-42"
runner launch web-admin --for 30m
runner launch web-admin -j --plan -o json
cat commands.sh | runner launch web-admin
runner launch web-admin -- scp web:/var/log/syslog .
runner launch db-admin --profile psql -- ./migrate.sh`,
		long: `The grant is requested, the account is made, and a shell opens as that account. When
the session ends, in whatever way, the grant ends too and the account is removed.
The secret of the account is never shown.

On a terminal the device gives the session a terminal too, which follows its size.
Otherwise the streams are passed on as they are. Exit codes are those of runner until
the session begins; then the exit code is that of the shell: 128 and the number for
a signal, 255 when the connection was lost or the session was cut off. On a terminal
~. on a new line ends the session, ~e extends it, ~? says so.

What the terminal shows is recorded, unless the credential says otherwise (recording):
runner session play.

With -- a program of this machine runs instead of the shell, and is given the account
by its profile: psql, mysql, ssh and xfreerdp have theirs; with --profile env, file or
stdin a program finds it in RUNNER_ACCOUNT and RUNNER_PASSWORD, in RUNNER_SECRET_FILE,
or in its first line of input. runner.yaml may have profiles of its own. The secret is
never in the arguments. The grant ends when the program does; it is not recorded.

Of credentials that leave it open (jit: {policy: opt_in}, as those that come from
KeeperPAM), -j asks for just-in-time access. A supplied host goes before it, and it
before a supplied user and the linked account; a session as an account that is there
already is not opened. --plan says which way would be taken, in KeeperPAM's words.`,
		args: func(c *cobra.Command, args []string) error {
			if dash := c.ArgsLenAtDash(); dash >= 0 {
				args = args[:dash]
			}
			return needs("CREDENTIAL")(c, args)
		},
		exits: []int{exitFile, exitDenied, exitApproval, exitUnreached, exitUndone, exitLeft, exitInterrupted},
		run: func(ctx context.Context, args []string) error {
			l.ask.Credential = args[0]
			if dash := c.ArgsLenAtDash(); dash >= 0 {
				l.program = &local{named: profile, argv: args[dash:]}
			} else if profile != "" {
				return usagef("--profile is for a command after --")
			}
			return l.run(ctx)
		},
	}.command()
	fs := c.Flags()
	fs.DurationVar(&l.ask.For, "for", 0, "how long at most, such as 30m or 2h (default: what the credential says)")
	fs.StringVar(&l.ask.Reason, "reason", "", "why, for those who read the audit")
	fs.StringVar(&l.ask.Requester, "requester", "", "for whom (operators only)")
	fs.StringArrayVarP(&l.params, "param", "p", nil, "parameter of the template, key=value or key=@FILE")
	fs.StringVar(&profile, "profile", "", "how the command is given the account (default: the profile that names it)")
	l.ways(c)
	return c
}

func (l *launch) run(ctx context.Context) (err error) {
	a := l.app
	if l.plan {
		return l.say()
	}
	signal.Ignore(syscall.SIGPIPE) // a reader of the output that leaves ends the session, not this process
	if err := l.prepare(ctx); err != nil {
		return err
	}
	if err := l.provides(l.eng.Inventory); err != nil {
		return err
	}
	if err := l.suits(); err != nil {
		return err
	}
	l.keep = &engine.Keeping{Dialers: a.dialers}
	if l.program == nil {
		l.eng.Dialer = l.keep
	}
	defer func() { err = errors.Join(err, l.keep.Close()) }()
	c, err := l.provision(ctx)
	defer func() { l.calm() }()
	if l.held.ID == "" { // nothing was stored
		return err
	}
	if err != nil || c.Grant.State != grant.Active || ctx.Err() != nil {
		ended, serr := l.eng.EndSession(context.WithoutCancel(ctx), l.held, l.ask.Caller, grant.SessionNever, 0)
		if err = errors.Join(err, serr); err != nil {
			return err
		}
		return l.conclude(ctx, ended)
	}
	status, err := l.session(ctx, &c)
	return l.over(ctx, c, status, err)
}

// suits refuses what no session can be opened on, and chooses how the session logs
// in: by a key of its own where the template takes one.
func (l *launch) suits() error {
	cred := l.eng.Inventory.Credentials[l.ask.Credential]
	if cred == nil {
		return nil // the request says so
	}
	if l.program != nil {
		return l.suitsProgram(cred)
	}
	if cn, err := l.eng.Inventory.Resolve(cred.Name); err == nil && cn.WinRM != nil {
		return usagef("device %s is reached over %s, where no shell can be opened; runner launch %s -- xfreerdp runs a program with the account", cn.Device, cn.Transport, cred.Name)
	}
	if l.open {
		return usagef("launch makes a key of its own: leave -p public_key out, or use runner grant request")
	}
	l.ask.GenerateKey, l.record = takesKey(l.eng, cred), cred.JIT.Recording
	if cred.JIT.Creates() {
		return nil
	}
	var err error
	l.own, err = l.ownLogin(cred)
	return err
}

// ownLogin returns the login of the account that a credential elevates: its own, or
// that of the linked one.
func (l *launch) ownLogin(cred *inventory.Credential) (*inventory.Connection, error) {
	name := cred.Linked
	if cred.JIT.OwnCredential {
		name = cred.Name
	}
	cn, err := l.eng.Inventory.Resolve(name)
	if err == nil && cn.Device != cred.Device {
		err = usagef("credential %s is of device %s, and the linked credential %s of %s", cred.Name, cred.Device, name, cn.Device)
	}
	return cn, err
}

// suitsProgram refuses a program that cannot be run, or not given the account.
func (l *launch) suitsProgram(cred *inventory.Credential) error {
	if !cred.JIT.Creates() {
		return usagef("credential %s elevates an account whose secret is not runner's to hand over: leave -- and the command out, or use runner grant request", cred.Name)
	}
	if err := l.program.find(l.app); err != nil {
		return err
	}
	l.ask.GenerateKey = l.program.profile.key
	if l.ask.GenerateKey && !takesKey(l.eng, cred) {
		return usagef("%s needs a key, and the accounts of credential %s get none", l.program.argv[0], cred.Name)
	}
	return nil
}

// takesKey reports whether the creation of a credential can give the account a key.
func takesKey(e *engine.Engine, cred *inventory.Credential) bool {
	t, err := e.Templates.Get(template.Create, cred.JIT.Create)
	if err != nil {
		return false // the request says so
	}
	for _, p := range t.Params {
		if p.Name == "public_key" {
			return true
		}
	}
	return false
}

// provision requests the grant and makes the account, while the session's own
// connection is dialled.
func (l *launch) provision(ctx context.Context) (grant.Case, error) {
	a := l.app
	l.began = a.now()
	shown := a.provisioning(l.ask.Credential)
	defer shown.end()
	l.eng.Progress = shown.progress
	l.ask.Session = &engine.SessionAsk{Kind: grant.SessionShell, Client: nodeName()}
	if l.program != nil {
		l.ask.Session.Kind, l.ask.Session.Command = grant.SessionLocal, programName(l.program.argv)
	}
	c, err := l.afresh(ctx)
	if err != nil {
		return c, err
	}
	l.held = *c.Opens
	l.beat(ctx)
	stored := context.WithoutCancel(ctx) // what is stored now has to be ended
	if err := a.warnUnattended(stored); err != nil {
		return c, err
	}
	if l.program != nil {
		return l.create(ctx, c)
	}
	if err := l.dialAhead(stored, &c.Grant); err != nil {
		a.log.Debug("the session connection is dialled later", slog.Any("error", err))
	}
	return l.create(ctx, c)
}

// beat tells that this process lives, until calm is called.
func (l *launch) beat(ctx context.Context) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.eng.Beat(ctx, l.held)
	}()
	l.calm = func() { stop(); <-done }
}

// dialAhead begins the session's connection.
func (l *launch) dialAhead(ctx context.Context, g *grant.Grant) error {
	if l.own != nil {
		return l.keep.BeginAs(ctx, l.own)
	}
	return l.keep.Begin(ctx, g)
}

// afresh requests the grant. What is left of the requester's session before, whose
// program may have died, is removed first.
func (l *launch) afresh(ctx context.Context) (grant.Case, error) {
	if _, err := l.eng.Reap(ctx); err != nil {
		return grant.Case{}, err
	}
	c, err := l.eng.Request(ctx, l.ask)
	denied, is := errors.AsType[*engine.DeniedError](err)
	if !is || denied.Existing == nil || denied.Existing.State != grant.Ending {
		return c, err
	}
	old, oerr := l.eng.Store.Case(ctx, denied.Existing.ID)
	if oerr == nil {
		old, oerr = l.app.finish(ctx, l.eng, old)
	}
	if oerr != nil || !old.Grant.State.Final() {
		return c, errors.Join(err, oerr)
	}
	return l.eng.Request(ctx, l.ask)
}

// elevated logs in as the account that the grant has elevated.
func (l *launch) elevated(ctx context.Context, c *grant.Case) error {
	if l.own.User != c.Grant.Account {
		return usagef("the grant elevates account %s, and the login at hand is that of %s", c.Grant.Account, l.own.User)
	}
	if err := l.keep.BeginAs(ctx, l.own); err != nil {
		return err
	}
	return l.keep.UseOwn(ctx)
}

// session logs in, unless the creation did, and runs the shell to its end.
func (l *launch) session(ctx context.Context, c *grant.Case) (int, error) {
	if l.own != nil {
		if err := l.elevated(ctx, c); err != nil {
			return exitFailed, err
		}
		return l.sit(ctx, c, nil)
	}
	_, s, err := l.eng.Collect(context.WithoutCancel(ctx), c.Grant.ID, l.ask.Caller)
	if err != nil {
		return exitFailed, err
	}
	if l.program != nil {
		return l.runLocal(ctx, c, s)
	}
	login := engine.Login{Account: s.Account, Password: secret.New(s.Password), PrivateKey: secret.New(s.PrivateKey)}
	if err := l.keep.Use(ctx, &c.Grant, login); err != nil {
		return exitFailed, err
	}
	return l.sit(ctx, c, s.Mask())
}

// sit says that all is ready, and runs the shell.
func (l *launch) sit(ctx context.Context, c *grant.Case, mask *secret.Mask) (int, error) {
	l.app.say("%s on %s until %s, ready after %s", c.Grant.Account, c.Grant.Device, l.app.when(c.Grant.Expires), short(l.app.now().Sub(l.began)))
	return l.attach(ctx, c, mask)
}

// over ends the grant after its session, and removes the account.
func (l *launch) over(ctx context.Context, c grant.Case, status int, cause error) error {
	a := l.app
	if err := l.keep.Close(); err != nil {
		return err
	}
	if cause != nil {
		a.say("%s", sessionEnd(cause))
		a.advise(cause)
	}
	keep := context.WithoutCancel(ctx) // the second signal ends the process
	shown := a.provisioning("")
	l.eng.Progress = shown.progress
	ended, err := l.eng.EndSession(keep, l.held, l.ask.Caller, engine.SessionEndedBy(cause), status)
	if err == nil {
		ended, err = a.finish(keep, l.eng, ended)
	}
	shown.end()
	switch {
	case err != nil:
		a.warn("the account is not removed yet, runner serve or runner sweep goes on: %s", problem(err))
	case ended.Grant.State.Final() && !c.Grant.Creates:
		a.say("session ended after %s, account %s on %s is as it was", short(a.now().Sub(c.Grant.Activated)), c.Grant.Account, c.Grant.Device)
	case ended.Grant.State.Final():
		a.say("session ended after %s, account %s is removed from %s", short(a.now().Sub(c.Grant.Activated)), c.Grant.Account, c.Grant.Device)
	default:
		a.explainLeft(&ended)
	}
	if cause != nil && (ctx.Err() != nil || errors.Is(cause, errLeft)) {
		return exitWith(exitInterrupted)
	}
	if status != 0 {
		return exitWith(status)
	}
	return nil
}

// sessionEnd says in words why a session was cut off.
func sessionEnd(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted: ending the session"
	case errors.Is(err, errLeft):
		return "the session is ended"
	}
	return "the session is over: " + problem(err)
}

// provisioningBar shows that an account is being made: on a terminal one line that
// is gone when the shell opens, elsewhere one line.
type provisioningBar struct {
	app   *app
	about string
	from  time.Time
	quit  chan struct{}
	done  chan struct{}
	text  chan string
}

func (a *app) provisioning(credential string) *provisioningBar {
	b := &provisioningBar{app: a, from: a.now(), quit: make(chan struct{}), done: make(chan struct{}), text: make(chan string, 1)}
	if credential != "" {
		b.about = "provisioning " + credential
		a.doing(b.about)
	}
	go b.tick()
	return b
}

// tick shows how long it has taken.
func (b *provisioningBar) tick() {
	defer close(b.done)
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	text := ""
	for {
		select {
		case <-b.quit:
			return
		case text = <-b.text:
		case <-t.C:
		}
		if text != "" && b.app.errTTY {
			b.app.doing(fmt.Sprintf("%s (%s)", text, short(b.app.now().Sub(b.from))))
		}
	}
}

// progress shows what the engine does; with --verbose as every command does.
func (b *provisioningBar) progress(p engine.Progress) {
	if b.app.flags.verbose {
		b.app.progress(p)
		return
	}
	if p.Text == "" {
		return
	}
	text := oneLine(p.Text)
	if b.about != "" {
		text = b.about + ": " + text
	}
	select {
	case b.text <- text:
	default: // the next one comes soon
	}
}

func (b *provisioningBar) end() {
	close(b.quit)
	<-b.done
	b.app.settle()
}
