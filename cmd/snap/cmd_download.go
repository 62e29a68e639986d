// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"endured/client"
)

type downloadCommand struct {
	*app
	fromStore
	directory, basename string
}

func newDownloadCommand(a *app) *cobra.Command {
	cmd := downloadCommand{app: a}
	c := &cobra.Command{
		Use:   "download NAME",
		Short: "Get a snap's file from the store",
		Long: long(`
Get the file of a snap from the store, as NAME_REVISION.snap in the working
directory, and install nothing. What arrives is verified; nothing vouches for it
later, so that installing it takes --dangerous.`),
		Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error { return cmd.run(c.Context(), args[0]) },
	}
	cmd.channelFlags(c)
	c.Flags().StringVar(&cmd.directory, "target-directory", ".", "Put the file into this directory")
	c.Flags().StringVar(&cmd.basename, "basename", "", "Name the file BASENAME.snap")
	_ = c.MarkFlagDirname("target-directory")
	return c
}

func (cmd *downloadCommand) run(ctx context.Context, name string) error {
	if err := cmd.settle([]string{name}); err != nil {
		return err
	}
	if b := cmd.basename; b != "" && filepath.Base(b) != b {
		return usageErrorf("cannot use --basename=%s: want a name; --target-directory is for the directory", b)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	interrupts, stop := cmd.interrupts()
	defer stop()
	go func() {
		select {
		case <-interrupts:
			cancel()
		case <-ctx.Done():
		}
	}()
	d, err := cmd.client.Download(ctx, name, cmd.store)
	if err != nil {
		return err
	}
	defer d.Body.Close()
	file := d.Name
	if cmd.basename != "" {
		file = cmd.basename + ".snap"
	}
	path := filepath.Join(cmd.directory, file)
	p := cmd.newProgress()
	err = save(ctx, d, path, func(done int64) { p.transfer("Downloading", file, done, d.Size) })
	p.finish()
	if err != nil {
		return err
	}
	if cmd.directory == "." {
		path = "./" + file
	}
	cmd.say("%s downloaded (%s), 'snap install --dangerous %s' installs it", file, bytesize(d.Size), path)
	return nil
}

// save writes a download to path once it is whole, and nothing otherwise.
func save(ctx context.Context, d *client.Download, path string, report func(done int64)) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.partial")
	if err != nil {
		return fmt.Errorf("cannot download: %w", err)
	}
	defer os.Remove(f.Name())
	sum, done := sha3.New384(), int64(0)
	buf := make([]byte, 256<<10)
	for {
		n, err := d.Body.Read(buf)
		sum.Write(buf[:n])
		if _, werr := f.Write(buf[:n]); werr != nil {
			f.Close()
			return fmt.Errorf("cannot download: %w", werr)
		}
		done += int64(n)
		report(done)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			f.Close()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("cannot download: %w", err)
		}
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		return fmt.Errorf("cannot download: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("cannot download: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); done != d.Size || got != d.SHA3 {
		return fmt.Errorf("cannot use the download: it is not what the store's index says; was the file changed after 'snap debug store-index'?")
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("cannot download: %w", err)
	}
	return nil
}
