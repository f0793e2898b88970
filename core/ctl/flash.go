package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/hw/flash"
)

// imageCommand is for the machine that ratchetctl runs on; it talks to no box.
func (a *App) imageCommand() *cobra.Command {
	return group("image", "Write the appliance's image to a disk of this machine", "",
		"  ratchetctl image flash disk.img.zst /dev/disk/by-id/usb-Stick_1234-0:0", FlashCommand())
}

// FlashCommand writes a disk image to a disk. The image's own command has it too.
func FlashCommand() *cobra.Command {
	var yes bool
	var overwrite string
	cmd := &cobra.Command{
		Use: "flash IMAGE DISK", Short: "Write a disk image to a disk of this machine and read it back",
		Long: "Write a disk image (disk.img, or disk.img.zst as released) to a disk and read it back.\n\n" +
			"EVERYTHING ON THE DISK IS LOST. The disk is shown first and the answer must be \"yes\", or --yes\n" +
			"given. A disk that this machine uses (mounted, swap, RAID, system disk) is refused unless\n" +
			"--overwrite names it a second time. Only the image's data is written; partition GUIDs are made\n" +
			"for this disk alone and DATA grows to its end. If writing is cut off, the disk does not boot.",
		Example: "  ratchetctl image flash build/image/full/disk.img /dev/sdb\n" +
			"  ratchetctl image flash ratchet-v1.0.0-full.img.zst /dev/disk/by-id/nvme-X --yes",
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault // both are files
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runFlash(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), args[0], args[1], yes, overwrite)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().StringVar(&overwrite, "overwrite", "", "the disk once more: overwrite it though this machine uses it")
	return cmd
}

func runFlash(ctx context.Context, in io.Reader, out io.Writer, image, path string, yes bool, overwrite string) error {
	d, err := flash.Look(path)
	if err != nil {
		return err
	}
	if overwrite != "" && overwrite != path {
		return usage(fmt.Errorf("--overwrite names %s, the disk is %s", overwrite, path))
	}
	describeDisk(out, d)
	if len(d.InUse) > 0 && overwrite == "" {
		return fmt.Errorf("%s is in use: %s; to destroy what is on it all the same, add --overwrite %s",
			path, strings.Join(d.InUse, ", "), path)
	}
	s, err := flash.OpenSource(ctx, image)
	if err != nil {
		return err
	}
	if !yes {
		if err := confirm(ctx, in, out, path); err != nil {
			return err
		}
	}
	// Answering takes its time, and so does unpacking: /dev/sdb may be another disk by now.
	switch now, err := flash.Look(path); {
	case err != nil:
		return err
	case !now.Is(d):
		return fmt.Errorf("%s is not the disk that was shown any more; nothing was written", path)
	}
	start := time.Now()
	p := &progress{out: out, last: start}
	if err := flash.Write(ctx, s, d, flash.Options{Force: overwrite != "", Progress: p.show}); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s holds %s, read back and compared, in %.1f s\n", path, image, time.Since(start).Seconds())
	return nil
}

func describeDisk(out io.Writer, d flash.Disk) {
	content := d.Content
	if content == "" {
		content = "nothing that is known"
	}
	kind := "disk"
	if d.File {
		kind = "file"
	}
	fmt.Fprintf(out, "%-8s %s\n", kind, d.Path)
	for _, row := range [][2]string{{"model", d.Model}, {"serial", d.Serial}} {
		if row[1] != "" {
			fmt.Fprintf(out, "%-8s %s\n", row[0], row[1])
		}
	}
	fmt.Fprintf(out, "%-8s %s\n%-8s %s\n", "size", Bytes(uint64(d.Size)), "holds", content)
	for _, use := range d.InUse {
		fmt.Fprintf(out, "%-8s %s\n", "in use", use)
	}
}

// confirm wants the word "yes" from whoever sits there, until ctx ends.
func confirm(ctx context.Context, in io.Reader, out io.Writer, path string) error {
	fmt.Fprintf(out, "Everything on %s will be lost. Type yes to go on: ", path)
	line, err := bufio.NewReader(input{ctx, in}).ReadString('\n')
	if end := ctx.Err(); end != nil {
		return fmt.Errorf("nothing was written: %w", end)
	}
	if strings.TrimSpace(line) == "yes" {
		return nil
	}
	if errors.Is(err, io.EOF) && line == "" {
		return errors.New("nobody answered; nothing was written (without a terminal, use --yes)")
	}
	return errors.New("not confirmed; nothing was written")
}

// progress prints a line about every second, on a terminal over the one before.
type progress struct {
	out  io.Writer
	last time.Time
}

func (p *progress) show(step string, done, total int64) {
	if done < total && time.Since(p.last) < time.Second {
		return
	}
	p.last = time.Now()
	end := "\n"
	if f, ok := p.out.(*os.File); ok && done < total && isTerminal(f) {
		end = "\r"
	}
	fmt.Fprintf(p.out, "%-8s %3d %% of %s%s", step, 100*done/total, Bytes(uint64(total)), end)
}

func isTerminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
