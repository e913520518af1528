// Command compare times runner against the hand-written floor and, when it is
// installed, against ansible: the same steps on the same throw-away machine, the
// contenders in turn so that a busy moment meets all of them, at 0 ms and through a
// proxy at 50 ms. It prints medians, the ratio to the floor and the controller's own
// CPU seconds. Needs Linux and root; `make bench` calls it.
//
// With -devices N the same is done on N machines at once. With -launch it is timed
// how long a person waits for a prompt: runner launch against plain ssh.
//
// Contenders are in contenders.json: the command of each phase, in which {name}
// stands for a value of [values]. A contender whose program is absent is left out
// and named. A phase that fails ends the comparison: a fast failure is no result.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"runner/engine/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

type bench struct {
	root       string // of the repository
	work       string // scratch
	machines   []*lab.Machine
	devices    int
	fleet      string // folder of files that name the machines, with more than one
	contenders []contender
	runs       int
	out        io.Writer
	uid        int
}

// sample is one run of one phase.
type sample struct{ wall, cpu time.Duration }

type cell struct {
	contender, phase string
	delay            time.Duration
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	b := &bench{out: out, uid: 60100}
	fs := flag.NewFlagSet("compare", flag.ContinueOnError)
	fs.StringVar(&b.root, "root", ".", "folder of the repository")
	fs.IntVar(&b.runs, "runs", 20, "runs of every phase; the median counts")
	fs.IntVar(&b.devices, "devices", 1, "machines to work on at once")
	delays := fs.String("delays", "0s,50ms", "round-trip times")
	launch := fs.Bool("launch", false, "time runner launch against ssh, instead of the contenders")
	only := fs.String("only", "", "contenders to run, by comma; empty: all that are installed")
	file := fs.String("contenders", "testdata/bench/contenders.json", "below root")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := lab.Require(); err != nil {
		return err
	}
	if b.root, err = filepath.Abs(b.root); err != nil {
		return err
	}
	if b.work, err = os.MkdirTemp("", "runner-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.work)
	if b.contenders, err = b.load(filepath.Join(b.root, *file), *only); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(b.work, "floor"), "./testdata/bench/floor")
	build.Dir = b.root
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the floor: %w: %s", err, text)
	}
	defer func() {
		for _, m := range b.machines {
			err = errors.Join(err, m.Stop())
		}
	}()
	for n := range b.devices {
		m, err := lab.Start(ctx, lab.Config{Name: fmt.Sprintf("bench%d", n)})
		if err != nil {
			return err
		}
		b.machines = append(b.machines, m)
	}

	samples := map[cell][]sample{}
	for text := range strings.SplitSeq(*delays, ",") {
		delay, err := time.ParseDuration(text)
		if err != nil {
			return err
		}
		if *launch {
			err = b.launches(ctx, delay)
		} else {
			err = b.at(ctx, delay, samples)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// at runs every contender at one delay and prints what came out.
func (b *bench) at(ctx context.Context, delay time.Duration, samples map[cell][]sample) error {
	var addrs []string
	for _, m := range b.machines {
		addr := m.Addr
		if delay > 0 {
			p, err := newProxy(ctx, addr, delay)
			if err != nil {
				return err
			}
			defer p.Close()
			addr = p.Addr()
		}
		addrs = append(addrs, addr)
	}
	if b.devices > 1 {
		if err := b.writeFleet(addrs); err != nil {
			return err
		}
	}
	addr := addrs[0]
	for i := range b.contenders {
		if err := b.prepare(&b.contenders[i], addr); err != nil {
			return err
		}
	}
	for n := range b.runs + 1 {
		for _, c := range b.contenders {
			b.uid++
			v := b.values(c, addr)
			for _, phase := range phases {
				if len(c.Phases[phase]) == 0 {
					continue
				}
				s, err := b.once(ctx, c, phase, v)
				if err != nil {
					return fmt.Errorf("%s, %s at %v: %w", c.Name, phase, delay, err)
				}
				if n > 0 { // the first one warms caches
					k := cell{c.Name, phase, delay}
					samples[k] = append(samples[k], s)
				}
			}
		}
	}
	b.print(delay, samples)
	return nil
}

func (b *bench) once(ctx context.Context, c contender, phase string, v map[string]string) (sample, error) {
	argv := expand(c.Phases[phase], v)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), expand(c.Env, v)...)
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	begin := time.Now()
	err := cmd.Run()
	wall := time.Since(begin)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, text.String())
	}
	if err := b.agrees(ctx, phase, v); err != nil {
		return sample{}, fmt.Errorf("%w\n%s", err, text.String())
	}
	return sample{wall: wall, cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
}

// agrees looks on the machine itself, outside the measured time, whether the phase
// did what it said.
func (b *bench) agrees(ctx context.Context, phase string, v map[string]string) error {
	check := `! id -u "$1" && [ ! -e "/home/$1" ] && ! grep -rq "$1" /etc/sudoers.d`
	if phase == "create" {
		check = `id -u "$1" && passwd -S "$1" | grep -q " P " && grep -q expiry-time "/home/$1/.ssh/authorized_keys" && sudo -n -l -U "$1" | grep -q NOPASSWD`
	}
	// The account of a grant is runner's to name; that of a phase of ours is given.
	if phase == "grant" {
		check = `! getent passwd | grep -E '^jit-'`
	}
	for _, m := range b.machines {
		if out, err := m.Exec(ctx, "/bin/sh", "-c", "{ "+check+"; } 2>&1", "sh", v["account"]); err != nil {
			return fmt.Errorf("the machine does not agree: %w %s", err, out)
		}
	}
	return nil
}

func (b *bench) print(delay time.Duration, samples map[cell][]sample) {
	fmt.Fprintf(b.out, "\n%d at once, round trip %v, median of %d\n%-20s %-7s %10s %10s %8s\n", b.devices, delay, b.runs, "", "", "wall ms", "cpu ms", "/ floor")
	for _, phase := range phases {
		floor := median(samples[cell{"floor", phase, delay}], func(s sample) time.Duration { return s.wall })
		for _, c := range b.contenders {
			all := samples[cell{c.Name, phase, delay}]
			if len(all) == 0 {
				continue
			}
			wall := median(all, func(s sample) time.Duration { return s.wall })
			cpu := median(all, func(s sample) time.Duration { return s.cpu })
			ratio := "-"
			if floor > 0 {
				ratio = fmt.Sprintf("%.2f", wall.Seconds()/floor.Seconds())
			}
			fmt.Fprintf(b.out, "%-20s %-7s %10.1f %10.1f %8s\n", c.Name, phase, ms(wall), ms(cpu), ratio)
		}
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(all []sample, of func(sample) time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	var ds []time.Duration
	for _, s := range all {
		ds = append(ds, of(s))
	}
	slices.Sort(ds)
	return (ds[(len(ds)-1)/2] + ds[len(ds)/2]) / 2
}
