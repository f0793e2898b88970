package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/internal/command"
	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/template/document"
)

// maxDocument bounds a template that is read from a file.
const maxDocument = 256 << 10

// template is `ratchetctl migrate template`.
func template(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "template", Short: "Migrations of many VMs: create, list, show, delete",
		Example: "  ratchetctl migrate template create web --from-agents --vms 'web-*'\n  ratchetctl migrate template list",
	}
	c.AddCommand(templateList(app), templateShow(app), templateCreate(app), templateDelete(app))
	return c
}

func templateList(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List templates with what they select now", Args: cobra.NoArgs,
		Example: "  ratchetctl migrate template list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var reply api.TemplatesReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodTemplates, struct{}{}, &reply); err != nil {
				return err
			}
			var rows [][]string
			for _, t := range reply.Templates {
				where := "stored"
				if t.Configured {
					where = "configuration"
				}
				selects := strconv.Itoa(t.Selects)
				if t.Selects < 0 {
					selects = "?" // only agents could tell
				}
				rows = append(rows, []string{t.Name, kept(t.Type), selects, where, t.Description})
			}
			return app.Print(reply, []string{"TEMPLATE", "TYPE", "VMS", "FROM", "DESCRIPTION"}, rows)
		},
	}
}

func templateShow(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Print a template's document", Args: cobra.ExactArgs(1),
		Example: "  ratchetctl migrate template show evacuate-rack1 > evacuate.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			var reply api.TemplateReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodTemplate, api.TemplateRequest{Name: args[0]}, &reply); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(reply.Document, "\n"))
			return err
		},
		ValidArgsFunction: command.Names(templateNames).First(app),
	}
}

func templateCreate(app command.App) *cobra.Command {
	var fromAgents bool
	var file string
	var make api.MakeRequest
	c := &cobra.Command{
		Use: "create [NAME]", Short: "Keep a template: one from a file, or one made of what agents report", Args: cobra.MaximumNArgs(1),
		Long: `Keep a template on the box, in place of an earlier one of its name. With --from-agents the box asks the agents of the
VMs what their guests can do, and makes a template that all of them can follow. It prints the document, to be looked at and changed.`,
		Example: "  ratchetctl migrate template create evacuate-rack1 --from-agents --hosts rack1\n  ratchetctl migrate template create --file evacuate.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case fromAgents == (file != ""):
				return errors.New("say where it comes from: --from-agents, or --file FILE")
			case fromAgents && len(args) == 0:
				return errors.New("name the template")
			case fromAgents:
				make.Name = args[0]
				return makeTemplate(app, cmd, make)
			}
			return storeTemplate(app, cmd, file)
		},
	}
	f := c.Flags()
	f.BoolVar(&fromAgents, "from-agents", false, "make it of what the agents of the VMs report")
	f.StringVar(&file, "file", "", "read it from a file, or - for standard input")
	f.StringVar(&make.Type, "type", "", "with --from-agents, type that the VMs shall have")
	f.StringSliceVar(&make.Select.VMs, "vms", nil, "with --from-agents, names of VMs, with * and ?")
	f.StringSliceVar(&make.Select.Except, "except", nil, "with --from-agents, names of VMs that stay")
	f.StringSliceVar(&make.Select.Hosts, "hosts", nil, "with --from-agents, names of the hosts they are on")
	f.StringSliceVar(&make.Select.Capabilities, "capabilities", nil, "with --from-agents, what their guests can do, as virtio-mem")
	f.BoolVar(&make.Select.All, "all", false, "with --from-agents, every VM of every host")
	_ = c.RegisterFlagCompletionFunc("type", command.Names(typeNames).Flag(app))
	return c
}

func makeTemplate(app command.App, cmd *cobra.Command, request api.MakeRequest) error {
	var reply api.MakeReply
	if err := app.Invoke(cmd.Context(), plugin, api.MethodTemplateMake, request, &reply); err != nil {
		return err
	}
	for _, n := range reply.Notes {
		fmt.Fprintln(cmd.OutOrStdout(), "# "+n)
	}
	fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(reply.Document, "\n"))
	return nil
}

// storeTemplate reads a document here, where the mistakes in it can be shown in their lines.
func storeTemplate(app command.App, cmd *cobra.Command, file string) error {
	text, err := readDocument(cmd, file, maxDocument)
	if err != nil {
		return err
	}
	t, err := document.Parse(file, text)
	if wrong := (*document.Error)(nil); errors.As(err, &wrong) {
		fmt.Fprint(cmd.ErrOrStderr(), wrong.Detail())
		return errors.New("the template is not kept: mend what is shown above")
	}
	if err != nil {
		return err
	}
	plain, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("write template: %w", err)
	}
	request := api.StoreRequest{Template: plain, Document: string(text)}
	return app.Invoke(cmd.Context(), plugin, api.MethodTemplateStore, request, &struct{}{})
}

// readDocument reads a file, or standard input for "-".
func readDocument(cmd *cobra.Command, path string, most int64) ([]byte, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read file: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read file: %w", err)
	case int64(len(b)) > most:
		return nil, fmt.Errorf("read file: %s is longer than %d bytes", path, most)
	}
	return b, nil
}

func templateDelete(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Aliases: []string{"rm"}, Short: "Forget a stored template", Args: cobra.ExactArgs(1),
		Example: "  ratchetctl migrate template delete evacuate-rack1",
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.Invoke(cmd.Context(), plugin, api.MethodTemplateDelete, api.TemplateRequest{Name: args[0]}, &struct{}{})
		},
		ValidArgsFunction: command.Names(templateNames).First(app),
	}
}
