package module

// All returns the registry of all modules: those for Linux, those for Windows,
// and those that the controller carries out for either.
func All() (*Registry, error) {
	linux, err := Linux()
	if err != nil {
		return nil, err
	}
	windows, err := windowsModules()
	if err != nil {
		return nil, err
	}
	var own, shared []*Module
	for _, m := range linux.All() {
		if m.Platform == "" {
			shared = append(shared, m)
		} else {
			own = append(own, m)
		}
	}
	return NewRegistry(append(append(own, windows...), shared...)...)
}
