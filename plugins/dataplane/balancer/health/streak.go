package health

// Streak turns single results into up and down.
type Streak struct {
	Known, Up bool
	against   int // results in a row that contradict Up
}

// Result takes one result and says whether Known or Up changed.
func (s *Streak) Result(ok bool, rise, fall int) (changed bool) {
	if !s.Known {
		s.Known, s.Up = true, ok
		return true
	}
	if ok == s.Up {
		s.against = 0
		return false
	}
	need := rise
	if s.Up {
		need = fall
	}
	if s.against++; s.against < need {
		return false
	}
	s.Up, s.against = ok, 0
	return true
}
