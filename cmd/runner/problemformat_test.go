package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"runner/engine/lang"
)

var problemSamples = []lang.Problem{
	{Pos: lang.Pos{File: "templates/create/a b,c.yaml", Line: 3, Col: 5}, Code: "unknown-key", Message: "100% of it:\nunknown", Suggest: "when", Source: "    wen: é", Width: 3},
	{Pos: lang.Pos{File: "/srv/x.yaml", Line: 1, Col: 1}, Code: "unused-param", Message: "nothing reads it \x1b[31m", Warning: true},
	{Pos: lang.Pos{File: "c:d.yaml", Line: 1, Col: 1}, Code: "unknown-key", Message: "again"},
}

func formatted(t *testing.T, format string) string {
	t.Helper()
	var out bytes.Buffer
	a := &app{process: process{stdout: &out}}
	if err := a.writeProblems(format, 2, problemSamples); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestProblemsAreWorkflowCommandsThatNothingEnds(t *testing.T) {
	t.Parallel()
	got := formatted(t, formatGitHub)
	want := `::error file=templates/create/a b%2Cc.yaml,line=3,col=5,endColumn=8,title=unknown-key::100%25 of it:%0Aunknown; did you mean "when"?
::warning file=/srv/x.yaml,line=1,col=1,endColumn=2,title=unused-param::nothing reads it `
	if !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 3 || strings.Contains(got, "\x1b") || !strings.Contains(got, "file=c%3Ad.yaml") {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// TestSARIFHasWhatItsReadersAskFor holds the log against what the standard
// (OASIS SARIF 2.1.0) requires and what GitHub's code scanning reads.
func TestSARIFHasWhatItsReadersAskFor(t *testing.T) {
	t.Parallel()
	var log struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			ColumnKind string
			Tool       struct {
				Driver struct {
					Name  string
					Rules []struct {
						ID               string
						ShortDescription struct{ Text string }
					}
				}
			}
			Results []struct {
				RuleID    string
				RuleIndex int
				Level     string
				Message   struct{ Text string }
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct {
							StartLine, StartColumn, EndColumn int
							Snippet                           *struct{ Text string }
						}
					}
				}
			}
		}
	}
	var raw map[string]any
	if err := json.Unmarshal([]byte(formatted(t, formatSARIF)), &raw); err != nil {
		t.Fatal(err)
	}
	run := raw["runs"].([]any)[0].(map[string]any) //nolint:forcetypeassert // a failure of the test
	delete(run["tool"].(map[string]any)["driver"].(map[string]any), "version")
	text, err := json.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || !strings.Contains(log.Schema, "sarif-schema-2.1.0.json") || len(log.Runs) != 1 {
		t.Fatalf("%+v", log)
	}
	r := log.Runs[0]
	if r.ColumnKind != "unicodeCodePoints" || r.Tool.Driver.Name != "runner" || len(r.Tool.Driver.Rules) != 2 || len(r.Results) != 3 {
		t.Fatalf("%+v", r)
	}
	uris := []string{"templates/create/a%20b,c.yaml", "file:///srv/x.yaml", "./c:d.yaml"}
	levels := []string{"error", "warning", "error"}
	for i, x := range r.Results {
		rule := r.Tool.Driver.Rules[x.RuleIndex]
		if rule.ID != x.RuleID || rule.ShortDescription.Text == "" || x.Message.Text == "" || x.Level != levels[i] || len(x.Locations) != 1 {
			t.Errorf("%+v", x)
		}
		at := x.Locations[0].PhysicalLocation
		if at.ArtifactLocation.URI != uris[i] || at.Region.StartLine < 1 || at.Region.StartColumn < 1 || at.Region.EndColumn <= at.Region.StartColumn {
			t.Errorf("%+v, want %s", at, uris[i])
		}
	}
}

func TestProblemsAsJSONSayAllThatIsKnown(t *testing.T) {
	t.Parallel()
	var got templatesCheckedJSON
	if err := json.Unmarshal([]byte(formatted(t, formatJSON)), &got); err != nil {
		t.Fatal(err)
	}
	want := problemJSON{"templates/create/a b,c.yaml", 3, 5, 8, "error", "unknown-key", "100% of it:\nunknown", "when", "    wen: é"}
	if got.Checked != 2 || got.Problems == nil || len(*got.Problems) != 3 || (*got.Problems)[0] != want || (*got.Problems)[1].Severity != "warning" {
		t.Errorf("got %+v", got)
	}
}
