// Package trial holds forecasts against series of real load: what transfers would have taken that were started by them.
//
// # Protocol
//
// A series is put on slots of 5 minutes, or 30 if its samples are further apart; a slot without samples is like the one before it
// where durations are counted, and a gap to the forecaster. Values are scaled so that their 0.5th and 99.5th percentile are
// 0 and 1, and cut off at 0 and .97: the load u. What is free is max(.03, 1-u).
//
// After seven days of history, and until two days before its end, 150 requests come at random times (seeded); each is for a transfer of 15 to
// 75 minutes at the full rate. A request may be put off for at most 12 hours. The forecaster sees each slot when it is
// over. A request is looked at when it comes and every 30 minutes from then on: it starts when no later start is expected to be
// shorter, or in the slot that is expected to be best if that is before the next look; and at once if the back-test says that the
// forecast is not worth waiting for (forecast.Skill).
//
// The figures of a series are sums over its requests: the duration against that of the best start in the 12 hours, which only a
// clairvoyant knows, and against starting at once. Coverage is the share of slots of the next 12 hours, as seen when a request
// comes, whose load is not above the 0.9 quantile. Series shorter than ten days are left out.
//
// The constants of package forecast (how sharply methods are weighted, what the back-test asks for) were chosen with these series in
// sight, over three seeds of requests, and are the same for all series. So these figures are a little better than those of
// a series that nobody has seen; other seeds differ from them by about 0.01.
//
// # Data
//
// series/ is from the Numenta Anomaly Benchmark, unchanged but for compression (MIT, see series/LICENSE.NAB.txt). Any folder with files of
// a time and a value in each line can be tried instead.
package trial
