// Package forecast says how busy a resource will be in the next hours, how sure that is, and whether waiting by it has paid.
//
// # Purpose
//
// A [Forecaster] is fed with samples of a load. [Forecaster.Forecast] is a [Band]: quantiles for each slot of the next 18 hours.
// [Forecaster.Skill] is what a back-test says of it: starting transfers when the forecast was best, in the last days, against
// starting them at once. A forecast without skill is not to be waited for, however sure it looks.
//
// # How
//
// Several simple methods forecast side by side: the last value, a recent mean, the same time yesterday and a week ago, a profile
// of quantiles with a level, Holt-Winters, and a profile whose deviations fade as least squares have learnt. Their quantiles are mixed, each by
// its pinball loss of the last days; a mix is better than its best member more often than not. The errors that the mix made
// at each distance widen its band, and the levels are moved until the shares of truths below them are right.
//
// # Lifetime and concurrency
//
// Pure: time comes with the samples, nothing is random. A Forecaster is used by one goroutine. Memory is bounded, less than
// 1 MiB for slots of 5 minutes; a sample costs microseconds, a forecast a millisecond.
//
// # Guarantees
//
//   - What is not a number is not a sample; gaps are known as such and not filled in. Loads beyond the capacity are the capacity.
//   - A clock that jumps is believed after eight samples that agree; what was measured by a clock that was ahead is forgotten.
//   - The same samples give the same forecast. [Forecaster.Snapshot] and Restore keep the history over a restart.
//
// # Sources
//
// Holt (1957) and Winters (1960) for smoothing; Koenker and Bassett (1978) for quantiles and their loss; exponential weights as in
// Cesa-Bianchi and Lugosi, "Prediction, Learning, and Games" (2006); Gibbs and Candès (2021) for the levels. Package trial holds all
// of it against series of real load.
package forecast
