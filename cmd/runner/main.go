// Command runner gives people privileged access for a while, and takes it away
// again, provably.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], thisProcess())) }
