package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

// section is what these commands need to know of plugins.gateway.
type section struct {
	Volumes []struct {
		Name  string          `json:"name"`
		Size  json.RawMessage `json:"size"`
		Disk  string          `json:"disk"`
		Store json.RawMessage `json:"store"`
	} `json:"volumes"`
}

func configured(ctx context.Context, app App) (s section, err error) {
	return s, app.Section(ctx, plugin, &s)
}

// index finds a volume by its name.
func (s section) index(name string) (int, error) {
	var names []string
	for i, v := range s.Volumes {
		if v.Name == name {
			return i, nil
		}
		names = append(names, v.Name)
	}
	return 0, fmt.Errorf("there is no volume %q in the configuration; there are: %s", name, strings.Join(names, ", "))
}

// entry is a new element of plugins.gateway.volumes, with its keys in this order.
type entry struct {
	Name      string          `json:"name"`
	Size      string          `json:"size"`
	Disk      string          `json:"disk"`
	Share     int             `json:"share,omitempty"`
	CacheSize string          `json:"cache_size,omitempty"`
	Ack       string          `json:"ack,omitempty"`
	Store     json.RawMessage `json:"store"`
	// Encryption is given when the volume is made, or never.
	Encryption *encryption `json:"encryption,omitempty"`
}

type encryption struct {
	Key string `json:"key"`
}

// store is what --store-… flags say.
type store struct {
	Driver    string `json:"driver"`
	Path      string `json:"path,omitempty"`
	Endpoint  string `json:"endpoint,omitempty"`
	Region    string `json:"region,omitempty"`
	Bucket    string `json:"bucket,omitempty"`
	Prefix    string `json:"prefix,omitempty"`
	AccessKey string `json:"access_key,omitempty"`
	SecretKey string `json:"secret_key,omitempty"`
}

const createLong = `Add a volume to the configuration and have the box apply it, which moves the secure counter.
An empty volume appears in the store at once; the disk is formatted if it is blank. Several
volumes can have parts of one disk.

The store is taken over from another volume with --like, or described by the other flags. The
secret key is read from a file, so that it is neither in the shell's history nor in ps.

With --encryption-key-file everything in the store is encrypted, from the first byte on or never:
openssl rand -hex 32 makes a key. Keep a copy somewhere that is neither the box nor the store;
without it the volume is lost with the box.`

func create(app App) *cobra.Command {
	var e entry
	var s store
	var like, secretFile, keyFile string
	var preview bool
	c := &cobra.Command{
		Use: "create NAME", Short: "Add a volume to the configuration", Long: createLong, Args: cobra.ExactArgs(1),
		Example: "  ratchetctl volume create scratch --size 100GiB --disk serial:S5GXNX0R123456 --like vm-images\n" +
			"  ratchetctl volume create vm --size 2TiB --disk serial:S5GXNX0R123456 --endpoint https://s3.example.net \\\n" +
			"    --bucket vm --region eu-central-1 --access-key AKIAEXAMPLE --secret-key-file key.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			e.Name = args[0]
			for flag, value := range map[string]*string{"size": &e.Size, "cache-size": &e.CacheSize} {
				if *value == "" {
					continue
				}
				n, err := parseSize(*value)
				if err != nil {
					return app.Usage("--%s: %w", flag, err)
				}
				*value = n.String()
			}
			known, err := configured(cmd.Context(), app)
			if err != nil {
				return err
			}
			if _, err := known.index(e.Name); err == nil {
				return fmt.Errorf("volume %s is configured already: see ratchetctl volume show %s", e.Name, e.Name)
			}
			if e.Store, err = s.raw(app, known, like, secretFile, cmd.InOrStdin()); err != nil {
				return err
			}
			if keyFile != "" {
				if keyFile == secretFile {
					return app.Usage("--encryption-key-file and --secret-key-file are two different keys")
				}
				key, err := readKey(keyFile, cmd.InOrStdin())
				if err != nil {
					return fmt.Errorf("read encryption key: %w", err)
				}
				e.Encryption = &encryption{key}
			}
			return app.Edit(cmd.Context(), plugin, "add", "volumes", e, preview)
		},
	}
	f := c.Flags()
	f.StringVar(&e.Size, "size", "", "size that clients see, as 100GiB")
	f.StringVar(&e.Disk, "disk", "", "local disk for log and cache, as serial:… (ratchetctl hw list)")
	f.IntVar(&e.Share, "share", 0, "weight among the volumes of the disk (default 1)")
	f.StringVar(&e.CacheSize, "cache-size", "", "part of the disk; default: what is free, by share")
	f.StringVar(&e.Ack, "ack", "", "when writes are answered: log or ring")
	f.StringVar(&like, "like", "", "take the store over from this volume")
	_ = c.RegisterFlagCompletionFunc("like", command.Names(volumeNames).Flag(app)) // fails for a flag that is not there
	f.StringVar(&s.Path, "path", "", "store in this directory of the box")
	f.StringVar(&s.Endpoint, "endpoint", "", "store in an S3 service at this URL")
	f.StringVar(&s.Bucket, "bucket", "", "its bucket")
	f.StringVar(&s.Region, "region", "", "its region")
	f.StringVar(&s.Prefix, "prefix", "", "put before every key")
	f.StringVar(&s.AccessKey, "access-key", "", "its access key")
	f.StringVar(&secretFile, "secret-key-file", "", "file with its secret key; - is the standard input")
	f.StringVar(&keyFile, "encryption-key-file", "", "file with the key that the store's content is encrypted with; - is the standard input")
	dryRun(c, &preview)
	_ = c.MarkFlagRequired("size")
	_ = c.MarkFlagRequired("disk")
	return c
}

func dryRun(c *cobra.Command, preview *bool) {
	c.Flags().BoolVar(preview, "dry-run", false, "print the configuration as it would be, with what the box has against it, and change nothing")
}

// raw is the store of the new volume.
func (s store) raw(app App, known section, like, secretFile string, in io.Reader) (json.RawMessage, error) {
	described := s != (store{}) || secretFile != ""
	switch {
	case like != "" && described:
		return nil, app.Usage("--like and the flags of a store exclude each other")
	case like != "":
		i, err := known.index(like)
		if err != nil {
			return nil, err
		}
		return known.Volumes[i].Store, nil
	case !described:
		return nil, app.Usage("say where the volume is stored: --like VOLUME, --path DIRECTORY, or --endpoint and --bucket")
	}
	s.Driver = "s3"
	if s.Path != "" {
		s.Driver = "dir"
	}
	if secretFile != "" {
		key, err := readKey(secretFile, in)
		if err != nil {
			return nil, fmt.Errorf("read secret key: %w", err)
		}
		s.SecretKey = key
	}
	return json.Marshal(s)
}

// readKey is the content of a file, or of in when it is called -.
func readKey(path string, in io.Reader) (string, error) {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	key, err := io.ReadAll(io.LimitReader(in, 4096))
	return strings.TrimSpace(string(key)), err
}

func parseSize(text string) (strict.Size, error) {
	var n strict.Size
	err := n.UnmarshalText([]byte(text))
	if err == nil && n <= 0 {
		err = errors.New("a size is more than nothing")
	}
	return n, err
}

func resize(app App) *cobra.Command {
	var shrink, preview bool
	c := &cobra.Command{
		Use: "resize NAME SIZE", Short: "Change the size of a volume while it is in use", Args: cobra.ExactArgs(2), ValidArgsFunction: command.Names(volumeNames).First(app),
		Long: "Change the size of a volume in the configuration and have the box apply it, which moves the secure\n" +
			"counter. Clients keep their connections. NVMe hosts are told. NBD and iSCSI clients are not: they see the\n" +
			"new size when they connect again or rescan (nbd-client: after a reconnect; QEMU: block_resize; Linux:\n" +
			"iscsiadm -m session --rescan). What is behind a smaller size is lost.",
		Example: "  ratchetctl volume resize demo 3TiB",
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := parseSize(args[1])
			if err != nil {
				return app.Usage("%w", err)
			}
			known, err := configured(cmd.Context(), app)
			if err != nil {
				return err
			}
			i, err := known.index(args[0])
			if err != nil {
				return err
			}
			old, err := parseSize(strings.Trim(string(known.Volumes[i].Size), `"`))
			if err != nil {
				return fmt.Errorf("size of volume %s in the configuration: %w", args[0], err)
			}
			if size < old && !shrink {
				return fmt.Errorf("%s is smaller than %s: shrink the filesystem on it first, then say --shrink; what is behind is lost", size, old)
			}
			at := fmt.Sprintf("volumes[%d].size", i)
			// The volume may be larger than its configuration has it already: it does not shrink by that.
			if shrink && size <= old && !preview {
				// What the box would refuse costs no data.
				if err := app.Try(cmd.Context(), plugin, "set", at, size.String()); err != nil {
					return err
				}
				// The volume first: what the configuration says afterwards is then true whatever happens in between.
				request := api.ShrinkRequest{Name: args[0], Size: uint64(size)}
				if err := app.Invoke(cmd.Context(), plugin, api.MethodShrink, request, &api.Volume{}); err != nil {
					return err
				}
			}
			return app.Edit(cmd.Context(), plugin, "set", at, size.String(), preview)
		},
	}
	c.Flags().BoolVar(&shrink, "shrink", false, "give up what is behind the new size")
	dryRun(c, &preview)
	return c
}

func remove(app App) *cobra.Command {
	var force, preview bool
	var timeout time.Duration
	c := &cobra.Command{
		Use: "delete NAME", Short: "Take a volume out of the configuration and give its disk space back", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(volumeNames).First(app),
		Long: "Upload what is left, take the volume out of the configuration, which moves the secure counter, and give\n" +
			"its part of the disk back. The objects in the store stay: the same volume can be created again, here or\n" +
			"on another box, and has its data.\n\n" +
			"With --force what is not uploaded is lost and clients are cut off.",
		Example: "  ratchetctl volume delete scratch",
		RunE: func(cmd *cobra.Command, args []string) error {
			known, err := configured(cmd.Context(), app)
			if err != nil {
				return err
			}
			i, err := known.index(args[0])
			if err != nil {
				return err
			}
			if !force && !preview {
				if err := uploaded(cmd.Context(), app, args[0], timeout); err != nil {
					return err
				}
			}
			at := fmt.Sprintf("volumes[%d]", i)
			// The space first: without the volume in its configuration the gateway may not have the disk any more. But
			// nothing is given back for a change that the box would refuse. If nothing comes of the rest all the same,
			// the volume is there again at the next start, from the store.
			if !preview {
				if err := app.Try(cmd.Context(), plugin, "remove", at, nil); err != nil {
					return err
				}
				request := api.ReleaseRequest{Name: args[0], Configured: true, Force: force}
				if err := app.Invoke(cmd.Context(), plugin, api.MethodRelease, request, &api.ReleaseReply{}); err != nil {
					return fmt.Errorf("give the disk space of volume %s back: %w", args[0], err)
				}
			}
			return app.Edit(cmd.Context(), plugin, "remove", at, nil, preview)
		},
	}
	c.Flags().BoolVar(&force, "force", false, "also with clients connected or data that is not uploaded")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "give up waiting for the upload after this long")
	dryRun(c, &preview)
	return c
}

// uploaded returns nil for a volume that nobody will miss.
func uploaded(ctx context.Context, app App, name string, timeout time.Duration) error {
	var v api.Volume
	if err := app.Invoke(ctx, plugin, api.MethodShow, api.VolumeRequest{Name: name}, &v); err != nil {
		return err
	}
	if v.Connections > 0 {
		return fmt.Errorf("%d clients are connected to %s: detach them, or say --force", v.Connections, name)
	}
	if err := app.Invoke(ctx, plugin, api.MethodFlush, api.FlushRequest{Name: name, TimeoutMS: timeout.Milliseconds()}, &v); err != nil {
		return fmt.Errorf("%w; --force gives up what is not uploaded", err)
	}
	return nil
}
