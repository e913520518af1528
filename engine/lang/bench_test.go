package lang

import "testing"

func BenchmarkCompileExpr(b *testing.B) {
	n := block(b, "rc == 0 and params.name in params.groups")
	for b.Loop() {
		if _, ps := CompileExpr(n, Bool, testScope()); len(ps) > 0 {
			b.Fatal(ps)
		}
	}
}

func BenchmarkEvalExpr(b *testing.B) {
	e, _ := CompileExpr(block(b, "rc == 0 and params.name in params.groups"), Bool, testScope())
	env := testEnv()
	for b.Loop() {
		if _, err := e.Eval(env); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFoldExpr(b *testing.B) {
	e, _ := CompileExpr(block(b, "rc == 0 and params.name in params.groups"), Bool, testScope())
	env := testEnv()
	for b.Loop() {
		if _, err := e.Fold(env, func(root string) bool { return root == "rc" }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileText(b *testing.B) {
	n := block(b, "jit grant {{ grant.id }} for {{ params.name | upper }}")
	for b.Loop() {
		if _, ps := CompileValue(n, String, testScope()); len(ps) > 0 {
			b.Fatal(ps)
		}
	}
}

func BenchmarkEvalText(b *testing.B) {
	v, _ := CompileValue(block(b, "jit grant {{ grant.id }} for {{ params.name | upper }}"), String, testScope())
	env := testEnv()
	for b.Loop() {
		if _, err := v.Eval(env); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileScript(b *testing.B) {
	n := block(b, "id -u \"{{ params.name }}\"\nif true; then\n  echo \"{{ grant.id }}\"\nfi")
	for b.Loop() {
		if _, _, ps := CompileScript(n, testScope()); len(ps) > 0 {
			b.Fatal(ps)
		}
	}
}
