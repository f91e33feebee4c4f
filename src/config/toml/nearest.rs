//! Suggestions for misspelled keys and values.

/// The choice closest to `word`, if it is close enough for a misspelling: at most a third of the
/// letters wrong or swapped, or one is a prefix of the other. Case is ignored.
pub(crate) fn nearest<'c>(
    word: &str,
    choices: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    if length == 0 || length > WORD_MAX {
        return None;
    }
    choices
        .into_iter()
        .filter_map(|choice| {
            let lower = choice.to_lowercase();
            let choice_length = lower.chars().count();
            // Optimal string alignment: a swap of two neighbouring letters counts as one edit.
            let distance = strsim::osa_distance(&word, &lower);
            let misspelled = distance <= (choice_length.max(length) / 3).max(1);
            let prefix = length.min(choice_length) >= 3
                && (lower.starts_with(&word) || word.starts_with(&lower));
            (misspelled || prefix).then_some((distance, choice))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, choice)| choice)
}

/// Longer than every key, in characters; it bounds the work for one comparison.
const WORD_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_misspellings_and_prefixes() {
        let keys = ["idle", "close_grace", "write_timeout", "message_from_client"];
        assert_eq!(nearest("idel", keys), Some("idle"));
        assert_eq!(nearest("closeGrace", keys), Some("close_grace"));
        assert_eq!(nearest("message_from_clients", keys), Some("message_from_client"));
        assert_eq!(nearest("cert", ["certificate", "concurrency"]), Some("certificate"));
    }

    #[test]
    fn ignores_unrelated_empty_and_long_words() {
        assert_eq!(nearest("interval", ["idle", "close_grace"]), None);
        assert_eq!(nearest("", ["idle"]), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), ["idle"]), None);
    }
}
