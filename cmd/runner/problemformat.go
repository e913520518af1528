package main

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"runner/engine/journal"
	"runner/engine/lang"
)

// How problems of files are written.
const (
	formatText   = "text"
	formatJSON   = "json"
	formatSARIF  = "sarif"
	formatGitHub = "github"
)

var problemFormats = []string{formatText, formatJSON, formatSARIF, formatGitHub}

// problemJSON is one problem; its fields are a contract.
type problemJSON struct {
	File      string `json:"file"`
	Line      int    `json:"line"`
	Column    int    `json:"column"`     // counts characters, from 1
	EndColumn int    `json:"end_column"` // the first one that is not meant
	Severity  string `json:"severity"`   // error or warning
	Code      string `json:"code"`
	Message   string `json:"message"`
	Suggest   string `json:"suggest,omitempty"` // what was probably meant
	Source    string `json:"source"`            // the line
}

func severity(p lang.Problem) string {
	if p.Warning {
		return "warning"
	}
	return "error"
}

// writeProblems writes ps on standard output for a program.
func (a *app) writeProblems(format string, checked int, ps lang.Problems) error {
	var v any
	switch format {
	case formatGitHub:
		for _, p := range ps {
			if _, err := fmt.Fprintln(a.stdout, githubCommand(p)); err != nil {
				return err
			}
		}
		return nil
	case formatSARIF:
		v = sarif(ps)
	default:
		list := []problemJSON{}
		for _, p := range ps {
			list = append(list, problemJSON{
				File: p.Pos.File, Line: p.Pos.Line, Column: p.Pos.Col, EndColumn: p.Pos.Col + max(1, p.Width),
				Severity: severity(p), Code: p.Code, Message: p.Message, Suggest: p.Suggest, Source: p.Source,
			})
		}
		v = templatesCheckedJSON{Checked: checked, Problems: &list}
	}
	text, err := asJSON(v)
	if err == nil {
		_, err = a.stdout.Write(text)
	}
	return err
}

// githubCommand is a workflow command of GitHub, which shows it beside the line:
// ::error file=f,line=1,col=2,endColumn=3,title=code::message. What would end a
// part of it, or start another command, is escaped as GitHub's toolkit does.
func githubCommand(p lang.Problem) string {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	clean := func(s string) string { return string(journal.Clean([]byte(s), false)) }
	return fmt.Sprintf("::%s file=%s,line=%d,col=%d,endColumn=%d,title=%s::%s", severity(p), property.Replace(clean(filepath.ToSlash(p.Pos.File))),
		p.Pos.Line, p.Pos.Col, p.Pos.Col+max(1, p.Width), property.Replace(p.Code), data.Replace(clean(p.Said())))
}

// Parts of a SARIF 2.1.0 log, as the OASIS standard names them.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID    string    `json:"id"`
		Short sarifText `json:"shortDescription"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		RuleIndex int             `json:"ruleIndex"`
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int        `json:"startLine"`
		StartColumn int        `json:"startColumn"`
		EndColumn   int        `json:"endColumn"`
		Snippet     *sarifText `json:"snippet,omitempty"`
	}
)

// sarif writes problems for tools that read SARIF. The rules are the codes that
// occur; columns count characters.
func sarif(ps lang.Problems) sarifLog {
	codes := map[string]bool{}
	for _, p := range ps {
		codes[p.Code] = true
	}
	ids := slices.Sorted(maps.Keys(codes))
	run := sarifRun{ColumnKind: "unicodeCodePoints", Results: []sarifResult{}, Tool: sarifTool{Driver: sarifDriver{Name: "runner", Version: buildVersion().Version, Rules: []sarifRule{}}}}
	for _, id := range ids {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{ID: id, Short: sarifText{lang.Codes[id]}})
	}
	for _, p := range ps {
		at, _ := slices.BinarySearch(ids, p.Code)
		region := sarifRegion{StartLine: p.Pos.Line, StartColumn: p.Pos.Col, EndColumn: p.Pos.Col + max(1, p.Width)}
		if p.Source != "" {
			region.Snippet = &sarifText{p.Source}
		}
		run.Results = append(run.Results, sarifResult{
			RuleID: p.Code, RuleIndex: at, Level: severity(p), Message: sarifText{p.Said()},
			Locations: []sarifLocation{{sarifPhysical{sarifArtifact{fileURI(p.Pos.File)}, region}}},
		})
	}
	return sarifLog{Schema: "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}}
}

// fileURI writes a path as a reference: relative to where the check ran, or
// file:/// for an absolute one.
func fileURI(path string) string {
	u := url.URL{Path: filepath.ToSlash(path)}
	if filepath.IsAbs(path) {
		u.Scheme = "file"
	}
	return u.String()
}
