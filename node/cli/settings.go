package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// settingMark marks the flags that can also come from the environment and from
// the file. Others belong to one command line and would surprise there.
const settingMark = "covey_setting"

// setting marks a flag as one that the environment and the file can give too.
func setting(flags *pflag.FlagSet, name string) {
	// It fails for a flag that does not exist only, which a test would see.
	_ = flags.SetAnnotation(name, settingMark, []string{"true"})
}

// variable is the environment variable of a setting: data-dir is COVEY_DATA_DIR.
func variable(name string) string {
	return "COVEY_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// settle gives each setting that no flag was given for its value from the
// environment or the file, and checks what all commands share.
func (a *app) settle(cmd *cobra.Command) error {
	settings := map[string]*pflag.Flag{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if _, ok := f.Annotations[settingMark]; ok {
			settings[f.Name] = f
		}
	})
	environment := map[string]any{}
	for name := range settings {
		if value, ok := a.env.LookupEnv(variable(name)); ok && value != "" {
			environment[name] = value
		}
	}
	// The file's own place cannot come from the file.
	if f := settings["config"]; f != nil && !f.Changed && environment["config"] != nil {
		a.config = fmt.Sprint(environment["config"])
	}
	k := koanf.New("\x00") // no nesting: a name is a name
	if a.config != "" {
		if err := k.Load(file.Provider(a.config), yaml.Parser()); err != nil {
			return fmt.Errorf("read settings %s: %w", a.config, err)
		}
		if err := a.knownKeys(cmd, k); err != nil {
			return err
		}
	}
	if err := k.Load(confmap.Provider(environment, "\x00"), nil); err != nil {
		return fmt.Errorf("read settings from the environment: %w", err)
	}
	var errs []error
	for _, name := range k.Keys() {
		f := settings[name]
		if f == nil || f.Changed {
			continue // of another command, or outdone by the flag
		}
		if err := f.Value.Set(text(k.Get(name))); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if value, ok := a.env.LookupEnv("COVEY_TOKEN"); ok {
		a.token = strings.TrimSpace(value)
	}
	if a.output != "table" && a.output != "json" {
		errs = append(errs, fmt.Errorf("output: %q is neither table nor json", a.output))
	}
	return errors.Join(errs...)
}

// knownKeys refuses names in the file that are no setting of any command: a
// typing mistake there would otherwise go unseen.
func (a *app) knownKeys(cmd *cobra.Command, k *koanf.Koanf) error {
	var known []string
	note := func(f *pflag.Flag) {
		if _, ok := f.Annotations[settingMark]; ok {
			known = append(known, f.Name)
		}
	}
	cmd.Root().PersistentFlags().VisitAll(note)
	for _, c := range cmd.Root().Commands() {
		c.Flags().VisitAll(note)
	}
	var errs []error
	for _, key := range k.Keys() {
		if !slices.Contains(known, key) {
			errs = append(errs, fmt.Errorf("read settings %s: %q is not a setting", a.config, key))
		}
	}
	return errors.Join(errs...)
}

// text is a value of the file in the form that a flag takes.
func text(value any) string {
	list, ok := value.([]any)
	if !ok {
		return fmt.Sprint(value)
	}
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = fmt.Sprint(v)
	}
	return strings.Join(parts, ",")
}
