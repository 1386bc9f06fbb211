//! Which relations a run reads, by what the database knows them as.
//!
//! A name is not an identity: a search path that moved, a table that was dropped and created again, a view that was
//! replaced, all lead the same name to other rows. The numbers tell.

use super::event::RelationResolved;
use super::ids::Fingerprint;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One relation of one database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RelationIdentity {
    pub schema: String,
    pub name: String,
    /// `pg_class.oid`: another one after a DROP and CREATE, the same after TRUNCATE, VACUUM FULL and ALTER.
    pub oid: u32,
    /// Over what a view is defined as; `None` for everything that holds rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<u64>,
}

impl fmt::Display for RelationIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// All relations that decide which rows a run reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relations {
    pub database: String,
    pub database_oid: u32,
    /// The table or view that the configuration names; `None` for a query.
    pub named: Option<RelationIdentity>,
    /// What a view or a query reads, at any depth, in the order of names.
    pub below: Vec<RelationIdentity>,
}

impl Relations {
    /// Over all of them. Each item of the canonical text is the length of its value in bytes, a colon, the value, a line
    /// feed.
    fn fingerprint(&self) -> Fingerprint {
        let mut text = String::new();
        let mut item = |value: &str| text.push_str(&format!("{}:{value}\n", value.len()));
        item(&self.database);
        item(&self.database_oid.to_string());
        item(if self.named.is_some() { "named" } else { "query" });
        for relation in self.named.iter().chain(&self.below) {
            item(&relation.schema);
            item(&relation.name);
            item(&relation.oid.to_string());
            item(&relation.definition.map(|hash| hash.to_string()).unwrap_or_default());
        }
        Fingerprint::of(text.as_bytes())
    }

    /// The event that records them: with as many of those below as fit in `bytes`, and the fingerprint over all.
    pub(super) fn resolved(self, bytes: usize) -> RelationResolved {
        let fingerprint = self.fingerprint();
        let Relations { database, database_oid, named, mut below } = self;
        let relations = below.len() as u32;
        let mut room = bytes;
        let fitting = below.iter().take_while(|relation| {
            let size = relation.schema.len() + relation.name.len() + 24;
            room.checked_sub(size).map(|left| room = left).is_some()
        });
        let fitting = fitting.count();
        below.truncate(fitting);
        RelationResolved { database, database_oid, named, below, relations, fingerprint }
    }
}

/// Names the first thing in which two resolutions differ. `None` when they are the same relations.
pub fn difference(before: &RelationResolved, now: &RelationResolved) -> Option<String> {
    if before.fingerprint == now.fingerprint {
        return None;
    }
    if (before.database_oid, &before.database) != (now.database_oid, &now.database) {
        let (was, is) = ((&before.database, before.database_oid), (&now.database, now.database_oid));
        return Some(format!("database {} was number {}, and {} is number {}", was.0, was.1, is.0, is.1));
    }
    let pairs = before.named.iter().zip(&now.named).chain(before.below.iter().zip(&now.below));
    let differing = pairs.into_iter().find(|(was, is)| was != is);
    Some(match differing {
        Some((was, is)) if (&was.schema, &was.name) != (&is.schema, &is.name) => {
            format!("it began with {was}, and what it would read now is {is}")
        }
        Some((was, is)) if was.oid != is.oid => {
            let numbers = format!("was number {} and is {}", was.oid, is.oid);
            format!("{is} is another relation than it began with: dropped and created again, or restored ({numbers})")
        }
        Some((_, is)) => format!("view {is} was replaced by another definition"),
        None if before.relations == now.relations && before.named.is_some() == now.named.is_some() => {
            format!("one of the {} relations below is another than it began with", now.relations)
        }
        None => format!("it began with {} relations below, and would read {} now", before.relations, now.relations),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(name: &str, oid: u32, definition: Option<u64>) -> RelationIdentity {
        RelationIdentity { schema: "s".to_owned(), name: name.to_owned(), oid, definition }
    }

    fn relations(named: Option<RelationIdentity>, below: Vec<RelationIdentity>) -> Relations {
        Relations { database: "shop".to_owned(), database_oid: 5, named, below }
    }

    #[test]
    fn whatever_differs_between_two_resolutions_is_named() {
        let view = |definition| Some(relation("v", 2, Some(definition)));
        let table = |oid| vec![relation("t", oid, None)];
        let elsewhere = Relations { database_oid: 6, ..relations(view(1), table(3)) };
        let cases = [
            (relations(view(1), table(3)), None),
            (relations(Some(relation("w", 2, Some(1))), table(3)), Some("s.w")),
            (relations(Some(relation("v", 9, Some(1))), table(3)), Some("number 2 and is 9")),
            (relations(view(7), table(3)), Some("view s.v was replaced")),
            (relations(view(1), table(4)), Some("number 3 and is 4")),
            (relations(view(1), vec![relation("u", 3, None)]), Some("s.t")),
            (relations(view(1), vec![]), Some("1 relations below")),
            (relations(None, table(3)), Some("1 relations below")),
            (elsewhere, Some("number 5")),
        ];
        let before = relations(view(1), table(3)).resolved(1000);
        for (now, named) in cases {
            let found = difference(&before, &now.clone().resolved(1000));
            match (named, &found) {
                (None, None) => {}
                (Some(named), Some(found)) if found.contains(named) => {}
                _ => panic!("{now:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn relations_that_do_not_fit_in_an_event_count_all_the_same() {
        let many = |last| (0..300).map(|i| relation(&format!("{i:063}"), i, None)).chain([relation("z", last, None)]);
        let before = relations(None, many(1).collect()).resolved(2048);
        assert!((10..30).contains(&before.below.len()), "{} relations", before.below.len());
        assert_eq!(before.relations, 301);
        assert!(difference(&before, &relations(None, many(1).collect()).resolved(2048)).is_none());
        let found = difference(&before, &relations(None, many(2).collect()).resolved(2048));
        assert_eq!(found.as_deref(), Some("one of the 301 relations below is another than it began with"));
    }
}
