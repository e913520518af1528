package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionJSON says what was built, from what.
type versionJSON struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified"`
	Built    string `json:"commit_time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	return leaf{
		use: "version", short: "print the version of this program",
		example: "runner version\nrunner version -o json",
		run: func(context.Context, []string) error {
			v := buildVersion()
			return a.answer(v, func(w io.Writer) {
				revision := v.Revision
				if v.Modified {
					revision += ", modified"
				}
				if revision != "" {
					revision = " (" + revision + ")"
				}
				_, _ = fmt.Fprintf(w, "runner %s%s %s %s\n", v.Version, revision, v.Go, v.Platform)
			})
		},
	}.command()
}

func buildVersion() versionJSON {
	v := versionJSON{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Built = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
