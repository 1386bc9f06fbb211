//! Choosing boundaries: which of the known points of a key cut it into slices of equal rows.

/// Slices this many times larger than wished are only made where there is nothing to cut.
const WIDEST: f64 = 4.0;

/// Picks those points that divide the mass best into pieces of `1 / wanted`.
///
/// `below[i]` is the share of the mass that lies strictly below point `i`: rising, between 0 and 1. A value with many
/// rows shows as a gap behind its point. Returns indexes into `below`, rising; the pieces are what lies between them.
///
/// The sum over all pieces of `ln(size · wanted)²` is made minimal, so that a piece of half the wished size is as bad as
/// one of double the size, and a heavy value does not drag its neighbours along: their number adapts. Dynamic
/// programming over the points; each looks back as far as `WIDEST` wished sizes, so the work is linear in the points for
/// a given density.
pub fn cuts(below: &[f64], wanted: usize) -> Vec<usize> {
    if wanted <= 1 {
        return Vec::new();
    }
    // Position 0 is the open start, the last the open end; a point at the very start or end cuts nothing off.
    let inner: Vec<usize> = (0..below.len()).filter(|&i| below[i] > 0.0 && below[i] < 1.0).collect();
    let positions: Vec<f64> = [0.0].into_iter().chain(inner.iter().map(|&i| below[i])).chain([1.0]).collect();
    let mut best = vec![(0.0_f64, 0_usize); positions.len()];
    for end in 1..positions.len() {
        let mut choice = (f64::INFINITY, end - 1);
        for start in (0..end).rev() {
            let size = (positions[end] - positions[start]) * wanted as f64;
            if size > WIDEST && start + 1 < end {
                break;
            }
            let cost = best[start].0 + if size > 0.0 { size.ln().powi(2) } else { f64::MAX / 1e6 };
            if cost < choice.0 {
                choice = (cost, start);
            }
        }
        best[end] = choice;
    }
    let mut chosen = Vec::new();
    let mut at = best[positions.len() - 1].1;
    while at > 0 {
        chosen.push(inner[at - 1]);
        at = best[at].1;
    }
    chosen.reverse();
    chosen
}

/// Sizes of the pieces that `cuts` leaves, as shares of the whole.
pub fn shares(below: &[f64], cuts: &[usize]) -> Vec<f64> {
    let ends = cuts.iter().map(|&i| below[i]).chain([1.0]);
    ends.scan(0.0, |start, end| Some(end - std::mem::replace(start, end))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn even(points: usize) -> Vec<f64> {
        (0..points).map(|i| i as f64 / points as f64).collect()
    }

    #[test]
    fn evenly_spread_points_are_cut_evenly_into_as_many_as_wanted() {
        for (points, wanted) in [(1000, 7), (1000, 24), (100, 25), (10, 10), (10, 3)] {
            let below = even(points);
            let cuts = cuts(&below, wanted);
            assert_eq!(cuts.len() + 1, wanted, "{points} points");
            let shares = shares(&below, &cuts);
            let (least, most) =
                (shares.iter().copied().fold(1.0, f64::min), shares.iter().copied().fold(0.0, f64::max));
            assert!(most / least < 2.0, "{points} points, {wanted} slices: {shares:?}");
        }
    }

    #[test]
    fn a_heavy_value_becomes_a_slice_of_its_own_and_the_rest_stays_even() {
        // 45 % spread below, 30 % on one value, 25 % spread above.
        let mut below: Vec<f64> = (0..=45).map(|i| f64::from(i) / 100.0).collect();
        below.extend((75..100).map(|i| f64::from(i) / 100.0));
        let cuts = cuts(&below, 10);
        let positions: Vec<f64> = cuts.iter().map(|&i| below[i]).collect();
        assert!(positions.contains(&0.45) && positions.contains(&0.75), "{positions:?}");
        let mut shares = shares(&below, &cuts);
        shares.sort_by(f64::total_cmp);
        let light = &shares[..shares.len() - 1];
        assert!(light[light.len() - 1] / light[0] < 2.0, "{shares:?}");
    }

    #[test]
    fn a_point_at_the_start_cuts_nothing_off() {
        assert_eq!(cuts(&[0.0], 8), Vec::<usize>::new());
        assert_eq!(cuts(&[], 8), Vec::<usize>::new());
        assert_eq!(cuts(&[0.0, 0.5], 8), vec![1]);
    }

    proptest! {
        #[test]
        fn cuts_rise_and_every_piece_has_some_mass(mut steps in prop::collection::vec(0.0_f64..1.0, 1..200), wanted in 1_usize..60) {
            let total: f64 = steps.iter().sum::<f64>() + 0.001;
            steps.iter_mut().fold(0.0, |sum, step| { *step = (sum + *step) / total; *step * total });
            let cuts = cuts(&steps, wanted);
            prop_assert!(cuts.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(shares(&steps, &cuts).iter().all(|share| *share > 0.0));
            prop_assert!(cuts.len() < wanted * 2);
        }
    }
}
