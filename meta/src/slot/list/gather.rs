//! Gathering a page of a bucket from its slots, without asking every slot for a whole page.
//!
//! Names are spread evenly by their hash: of a page of `limit` items a slot has about its share. So each is asked for that and a
//! little more; then those again whose items end before the page does. Most are asked when some have answered: by then it is known
//! about where the page ends, so that nobody reads much that isn't shown. It asks nobody itself: it says what to ask.

use super::{Item, Listed, Page, Query, Within, merge};

/// Asked of each slot beyond its share.
const SLACK: u32 = 4;
/// One of so many slots is asked first, where there are enough of them to tell something.
const FIRST: usize = 8;
/// That many.
const SLOTS_MIN: usize = 64;

/// See the module.
pub struct Gathering<T> {
    query: Query,
    /// What came from each slot so far; `None`: it wasn't asked.
    pages: Vec<Option<Page<T>>>,
}

impl<T: Listed> Gathering<T> {
    /// For this query to so many slots. Nobody was asked.
    pub fn new(query: Query, slots: u32) -> Self {
        Self { query, pages: (0..slots).map(|_| None).collect() }
    }

    /// The slots that must be asked now, and what; empty: [`Gathering::finish`] has the page.
    pub fn lacking(&self) -> Vec<(u32, Query)> {
        let limit = self.query.limit;
        if limit == 0 {
            return Vec::new();
        }
        let share = limit / (self.pages.len().max(1) as u32);
        // Twice the square root of the share is two standard deviations.
        let ask = (share + 2 * share.isqrt() + SLACK).min(limit);
        let asked = self.pages.iter().flatten().count();
        if asked < self.pages.len() {
            let first = if self.pages.len() < SLOTS_MIN { self.pages.len() } else { self.pages.len() / FIRST };
            let upto = self.about_the_end(asked);
            // Whom the end of the page stops anyway may have more than his share.
            let limit = if upto.is_some() { (2 * ask).min(limit) } else { ask };
            let slots = if asked == 0 { 0..first } else { asked..self.pages.len() };
            return slots
                .map(|slot| (slot as u32, Query { limit, upto: upto.clone(), ..self.query.clone() }))
                .collect();
        }
        let needed = self.last_needed();
        let lacks = |page: &Page<T>| {
            let next = page.next.as_ref()?;
            needed.is_none_or(|needed| next.order() < needed).then(|| next.clone())
        };
        let pages = (0..).zip(self.pages.iter().flatten());
        pages
            .filter_map(|(slot, page)| {
                Some((slot, Query { limit: ask, after: Some(lacks(page)?), ..self.query.clone() }))
            })
            .collect()
    }

    /// A key behind which the page most likely ends, judged by the slots that were asked; `None`: they don't tell.
    fn about_the_end(&self, asked: usize) -> Option<String> {
        let share = self.query.limit as usize * asked / self.pages.len();
        // Three standard deviations behind what is expected.
        let at = share + 3 * share.isqrt();
        let mut known: Vec<_> = self.pages.iter().flatten().flat_map(|page| &page.items).map(Item::order).collect();
        // Slots have common prefixes in common.
        let tells = self.query.delimiter.is_empty() && at > 0 && at < known.len();
        tells.then(|| known.select_nth_unstable(at).1.0.to_owned())
    }

    /// Where the page would end, were there nothing but what is known; `None`: more is needed anyway.
    fn last_needed(&self) -> Option<(&str, Within)> {
        let at = self.query.limit as usize - 1;
        let pages = self.pages.iter().flatten();
        let mut known: Vec<_> = pages.flat_map(|page| &page.items).map(Item::order).collect();
        if self.query.delimiter.is_empty() {
            // A key is in one slot: none is named twice, and where one of them would be is found without sorting the others.
            return (at < known.len()).then(|| *known.select_nth_unstable(at).1);
        }
        known.sort_unstable();
        known.dedup();
        known.into_iter().nth(at)
    }

    /// Takes what a slot answered.
    pub fn add(&mut self, slot: u32, page: Page<T>) {
        let Some(place) = self.pages.get_mut(slot as usize) else { return };
        match place {
            Some(there) => {
                there.items.extend(page.items);
                there.next = page.next;
            }
            None => *place = Some(page),
        }
    }

    /// The page.
    pub fn finish(self) -> Page<T> {
        merge(self.pages.into_iter().flatten().collect(), self.query.limit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Position;
    use super::*;

    struct Named(String);

    impl Listed for Named {
        fn order(&self) -> (&str, Within) {
            (&self.0, Within::All)
        }
    }

    /// A slot with these names, as lists of objects are: rolled up, behind a name.
    fn answer(names: &BTreeSet<String>, query: &Query) -> Page<Named> {
        let after = query.after.as_ref().map(|after| after.name.clone());
        let is_behind = |name: &str| {
            after.as_ref().is_none_or(|after| {
                let shown = query.roll_up(after);
                name > after.as_str() && !shown.is_some_and(|shown| name.starts_with(shown))
            })
        };
        let mut items: Vec<Item<Named>> = Vec::new();
        let (mut last, mut is_cut) = (None, false);
        let is_asked = |name: &&String| {
            name.starts_with(&query.prefix) && is_behind(name) && query.upto.as_ref().is_none_or(|upto| *name <= upto)
        };
        for name in names.iter().filter(is_asked) {
            let item = query
                .roll_up(name)
                .map_or_else(|| Item::Entry(Named(name.clone())), |shown| Item::Prefix(shown.to_owned()));
            if last.as_ref() == Some(&item.position()) {
                continue;
            }
            is_cut = items.len() == query.limit as usize;
            if is_cut {
                break;
            }
            last = Some(item.position());
            items.push(item);
        }
        let upto = query.upto.as_ref().map(Position::behind);
        Page { items, next: last.filter(|_| is_cut).or(upto) }
    }

    fn names_of(page: &Page<Named>) -> Vec<String> {
        page.items.iter().map(|item| item.position().name).collect()
    }

    /// Lists everything page by page, and counts the items that slots gave.
    fn list(slots: &[BTreeSet<String>], delimiter: &str, limit: u32) -> (Vec<String>, usize, u32) {
        let (mut found, mut given, mut pages, mut after) = (Vec::new(), 0, 0, None);
        loop {
            let query = Query {
                bucket: 1,
                prefix: String::new(),
                delimiter: delimiter.to_owned(),
                after: after.take(),
                limit,
                upto: None,
            };
            let mut gathering = Gathering::new(query, slots.len() as u32);
            loop {
                let lacking = gathering.lacking();
                if lacking.is_empty() {
                    break;
                }
                for (slot, query) in lacking {
                    let page = answer(&slots[slot as usize], &query);
                    given += page.items.len();
                    gathering.add(slot, page);
                }
            }
            let page = gathering.finish();
            assert!(page.items.len() <= limit as usize);
            pages += 1;
            found.extend(names_of(&page));
            after = page.next;
            if after.is_none() {
                return (found, given, pages);
            }
        }
    }

    /// Names spread over slots as keys are.
    fn spread(names: impl Iterator<Item = String>, slots: usize) -> Vec<BTreeSet<String>> {
        let mut spread = vec![BTreeSet::new(); slots];
        for name in names {
            let slot = cairn_placement::SlotId::of_key(1, name.as_bytes(), slots as u32).0;
            spread[slot as usize].insert(name);
        }
        spread
    }

    #[test]
    fn slots_are_asked_for_little_more_than_a_page_has() {
        let all: Vec<String> = (0..20_000).map(|number| format!("key-{number:06}")).collect();
        let slots = spread(all.iter().cloned(), 256);
        let (found, given, pages) = list(&slots, "", 1000);
        assert_eq!((found, pages), (all, 20));
        assert!(given < 20_000 * 8 / 5, "{given} were given for 20,000 that are shown");
    }

    #[test]
    fn where_a_page_ends_may_be_guessed_wrong() {
        // The slots that are asked first have few names, and those far apart, or most of all names, or none.
        for first in [0..3_u32, 0..4000, 0..0] {
            let mut slots = vec![BTreeSet::new(); 256];
            for number in 0..4000 {
                let is_first = first.contains(&number) || (first.len() == 3 && number % 1000 == 0);
                let slot = if is_first { number % 32 } else { 32 + number % 224 };
                slots[slot as usize].insert(format!("key-{number:06}"));
            }
            let all: Vec<String> = (0..4000).map(|number| format!("key-{number:06}")).collect();
            for limit in [1, 100, 1000, 5000] {
                assert_eq!(list(&slots, "", limit).0, all, "{first:?}, pages of {limit}");
            }
        }
    }

    #[test]
    fn names_that_lie_in_one_slot_are_found_all_the_same() {
        let all: Vec<String> = (0..500).map(|number| format!("key-{number:06}")).collect();
        let mut slots = vec![BTreeSet::new(); 16];
        slots[3] = all.iter().cloned().collect();
        for limit in [1, 7, 100, 1000] {
            assert_eq!(list(&slots, "", limit).0, all, "pages of {limit}");
        }
    }

    #[test]
    fn common_prefixes_are_shown_once() {
        let all = (0..3_000).map(|number| format!("{}/{number:06}", number / 100));
        let slots = spread(all, 16);
        let mut expected: Vec<String> = (0..30).map(|number| format!("{number}/")).collect();
        expected.sort();
        for limit in [1, 4, 29, 30, 1000] {
            assert_eq!(list(&slots, "/", limit).0, expected, "pages of {limit}");
        }
    }

    #[test]
    fn nobody_is_asked_for_an_empty_page() {
        let query = Query { bucket: 1, ..Query::default() };
        let gathering = Gathering::<Named>::new(query, 8);
        assert!(gathering.lacking().is_empty());
        assert_eq!(gathering.finish().items.len(), 0);
    }
}
