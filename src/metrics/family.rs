//! One metric name with its series, all made at the start: a series that appears only with its first event hides that
//! event from `increase()`, and a lookup by text on every verification would cost more than the counting.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{PoisonError, RwLock};

use prometheus::core::{MetricVec, MetricVecBuilder};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use prometheus::{HistogramVec, Registry};

use super::MetricsError;
use super::labels::Label;

/// One, two or three labels, as a key.
pub trait Labels: Copy {
    /// The texts of every combination, in the order of [`Labels::index`].
    fn rows() -> Vec<Vec<&'static str>>;
    /// The place of this combination.
    fn index(self) -> usize;
}

impl<A: Label> Labels for A {
    fn rows() -> Vec<Vec<&'static str>> {
        A::all().into_iter().map(|a| vec![a.name()]).collect()
    }
    fn index(self) -> usize {
        self.place()
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    fn rows() -> Vec<Vec<&'static str>> {
        let with = |a: A| B::all().into_iter().map(move |b| vec![a.name(), b.name()]);
        A::all().into_iter().flat_map(with).collect()
    }
    fn index(self) -> usize {
        self.0.place().saturating_mul(B::COUNT).saturating_add(self.1.place())
    }
}

impl<A: Label, B: Label, C: Label> Labels for (A, B, C) {
    fn rows() -> Vec<Vec<&'static str>> {
        let with = |a: A| <(B, C)>::rows().into_iter().map(move |rest| [vec![a.name()], rest].concat());
        A::all().into_iter().flat_map(with).collect()
    }
    fn index(self) -> usize {
        let rest = B::COUNT.saturating_mul(C::COUNT);
        self.0.place().saturating_mul(rest).saturating_add((self.1, self.2).index())
    }
}

/// The series of one name by their labels.
#[derive(Debug)]
pub struct Family<L, M> {
    series: Vec<M>,
    /// Counts where nobody looks. Never used: every key has its series.
    spare: M,
    labels: PhantomData<fn(L)>,
}

impl<L: Labels, M: Clone> Family<L, M> {
    fn of<B>(vec: &MetricVec<B>, spare: M) -> Result<Self, MetricsError>
    where
        B: MetricVecBuilder<M = M>,
        M: prometheus::core::Metric,
    {
        let rows = L::rows();
        let series = rows.iter().map(|row| vec.get_metric_with_label_values(row));
        Ok(Self { series: series.collect::<Result<_, _>>()?, spare, labels: PhantomData })
    }

    /// The series with these labels.
    pub fn at(&self, labels: L) -> &M {
        self.series.get(labels.index()).unwrap_or(&self.spare)
    }
}

/// Makes metrics and registers them.
pub(super) struct Maker<'a>(pub(super) &'a Registry);

/// Name, help, and names of labels.
type Names<'a, const N: usize> = (&'a str, &'a str, [&'a str; N]);

impl Maker<'_> {
    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        let counter = IntCounter::new(name, help)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        let gauge = IntGauge::new(name, help)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, MetricsError> {
        let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
        self.0.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }

    pub(super) fn counters<L: Labels, const N: usize>(
        &self,
        (name, help, labels): Names<'_, N>,
    ) -> Result<Family<L, IntCounter>, MetricsError> {
        let vec = IntCounterVec::new(Opts::new(name, help), &labels)?;
        self.0.register(Box::new(vec.clone()))?;
        Family::of(&vec, IntCounter::new(name, help)?)
    }

    pub(super) fn gauges<L: Labels, const N: usize>(
        &self,
        (name, help, labels): Names<'_, N>,
    ) -> Result<Family<L, IntGauge>, MetricsError> {
        let vec = IntGaugeVec::new(Opts::new(name, help), &labels)?;
        self.0.register(Box::new(vec.clone()))?;
        Family::of(&vec, IntGauge::new(name, help)?)
    }

    pub(super) fn histograms<L: Labels, const N: usize>(
        &self,
        (name, help, labels): Names<'_, N>,
        buckets: &[f64],
    ) -> Result<Family<L, Histogram>, MetricsError> {
        let opts = || HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let vec = HistogramVec::new(opts(), &labels)?;
        self.0.register(Box::new(vec.clone()))?;
        Family::of(&vec, Histogram::with_opts(opts())?)
    }

    /// Counters whose one label has the words of a later room.
    pub(super) fn worded_counters(
        &self,
        (name, help, label): (&str, &str, &str),
        words: &[&'static str],
    ) -> Result<Worded<IntCounter>, MetricsError> {
        let vec = IntCounterVec::new(Opts::new(name, help), &[label])?;
        self.0.register(Box::new(vec.clone()))?;
        Worded::of(&vec, words)
    }

    /// Counters whose one label has names of the policy.
    pub(super) fn named_counters(&self, (name, help, label): (&str, &str, &str)) -> Result<Named, MetricsError> {
        let vec = IntCounterVec::new(Opts::new(name, help), &[label])?;
        self.0.register(Box::new(vec.clone()))?;
        let other = vec.get_metric_with_label_values(&["other"])?;
        Ok(Named { vec, series: RwLock::default(), other })
    }

    /// Gauges whose one label has the words of a later room.
    pub(super) fn worded_gauges(
        &self,
        (name, help, label): (&str, &str, &str),
        words: &[&'static str],
    ) -> Result<Worded<IntGauge>, MetricsError> {
        let vec = IntGaugeVec::new(Opts::new(name, help), &[label])?;
        self.0.register(Box::new(vec.clone()))?;
        Worded::of(&vec, words)
    }
}

/// Series by the words that a later room gave when the metrics were made.
#[derive(Debug)]
pub struct Worded<M> {
    series: Vec<(&'static str, M)>,
    other: M,
}

impl<M: Clone> Worded<M> {
    fn of<B>(vec: &MetricVec<B>, words: &[&'static str]) -> Result<Self, MetricsError>
    where
        B: MetricVecBuilder<M = M>,
        M: prometheus::core::Metric,
    {
        let made = words.iter().map(|word| Ok((*word, vec.get_metric_with_label_values(&[word])?)));
        let series = made.collect::<Result<_, prometheus::Error>>()?;
        Ok(Self { series, other: vec.get_metric_with_label_values(&["other"])? })
    }

    /// The series of a word; `other` for one that was not given at the start.
    pub fn at(&self, word: &str) -> &M {
        self.series.iter().find(|(known, _)| *known == word).map_or(&self.other, |(_, series)| series)
    }
}

/// Series of one [`Named`]; a policy may hold as many templates. Further names count as `other`.
pub(super) const MAX_NAMED: usize = 1024;

/// Counters by the names that the policy gives. A name of an earlier policy keeps its series: a counter must not vanish.
#[derive(Debug)]
pub struct Named {
    vec: IntCounterVec,
    series: RwLock<BTreeMap<String, IntCounter>>,
    other: IntCounter,
}

impl Named {
    /// Makes the series of these names, at zero. Only for names that an operator chose.
    pub fn announce<'n>(&self, names: impl IntoIterator<Item = &'n str>) {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            if series.len() < MAX_NAMED
                && !series.contains_key(name)
                && let Ok(counter) = self.vec.get_metric_with_label_values(&[name])
            {
                series.insert(name.to_owned(), counter);
            }
        }
    }

    /// The series of a name; `other` for one that was not announced.
    pub fn at(&self, name: &str) -> IntCounter {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        series.get(name).unwrap_or(&self.other).clone()
    }
}
