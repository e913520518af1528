// Package templates holds the templates that are shipped with runner, as their
// files say them; engine/template reads and checks them. It owns nothing else.
package templates

import "embed"

// FS holds create/, delete/ and elevate/ with one YAML file for each template.
//
//go:embed create/*.yaml delete/*.yaml elevate/*.yaml
var FS embed.FS
