package share

import "testing"

func TestCreditAdmits(t *testing.T) {
	for what, c := range map[string]struct {
		credit       Credit
		free, borrow bool
	}{
		"nothing held":                {Credit{Grant: 10, All: 500, Total: 100}, true, true},
		"no limit":                    {Credit{Held: 500, All: 500}, true, true},
		"its own limit":               {Credit{Held: 5, Most: 5, Grant: 50, All: 5, Total: 100}, false, false},
		"its own limit, no other":     {Credit{Held: 5, Most: 5}, false, false},
		"within the grant":            {Credit{Held: 49, Grant: 50, All: 99, Total: 100}, true, true},
		"beyond the grant":            {Credit{Held: 50, Grant: 50, All: 50, Total: 100}, false, true},
		"all lent, in its own part":   {Credit{Held: 24, Grant: 50, All: 140, Total: 100}, true, true},
		"all lent, in the other part": {Credit{Held: 25, Grant: 50, All: 100, Total: 100}, false, false},
	} {
		if free, borrow := c.credit.Admits(false), c.credit.Admits(true); free != c.free || borrow != c.borrow {
			t.Errorf("%s: admits %t, when borrowing %t; want %t, %t", what, free, borrow, c.free, c.borrow)
		}
	}
}
