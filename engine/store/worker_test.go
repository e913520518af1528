package store_test

import "io"

const workerArg = "store-worker"

func worker(_ []string, _ io.Reader, _ io.Writer) {}
