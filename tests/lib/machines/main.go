// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// ExitError carries the exit code of a program that ran inside a machine.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit status %d", e.Code) }

// Verb does what the first argument of a program asks for, with the arguments after it.
type Verb func(ctx context.Context, args []string) error

// Main runs the verb that the arguments name and ends this process: with an ExitError's code, or 1 and the error after
// the program's name. SIGINT and SIGTERM end the verb's context. verbs is called once it is known that root asks.
func Main(program, usage string, verbs func() (map[string]Verb, error)) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := dispatch(ctx, program, usage, os.Args[1:], verbs)
	var exit *ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(exit.Code)
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, program, usage string, args []string, verbs func() (map[string]Verb, error)) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		fmt.Print(usage)
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("cannot work without root")
	}
	table, err := verbs()
	if err != nil {
		return err
	}
	verb, ok := table[args[0]]
	if !ok {
		return fmt.Errorf("cannot understand %q, try: %s help", args[0], program)
	}
	return verb(ctx, args[1:])
}
