package winrm

import "runner/engine/transport"

// Program returns the script that a batch becomes, for people. Values are not in
// it: they are the elements of $v.
func Program(b transport.Batch) (string, error) {
	p, err := render(b, "000000000000000000000000")
	if err != nil {
		return "", err
	}
	return p.Commands[0].Text, nil
}
