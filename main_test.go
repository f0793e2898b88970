package main

import "testing"

// The names by which processes are started are those that the plugins give themselves.
func TestFeatureNames(t *testing.T) {
	for _, f := range features() {
		name := f.Describe().GetName()
		if started := feature(name); started == nil || started.Describe().GetName() != name {
			t.Errorf("applet %q starts another plugin or none", name)
		}
	}
	if feature("core") != nil || feature("") != nil {
		t.Error("a plugin for a name that has none")
	}
}
