package lb

//go:generate sh ../generate.sh lb -type reason -type vip_flags -type encapsulation -type event_kind -type control_block -type hosts -type range -type ranges -type vip -type ring_chunk -type backend -type credit -type flow_line -type vip_counter -type backend_counter -type reason_counters -type event -type captured
