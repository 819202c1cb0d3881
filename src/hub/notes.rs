//! Notes that wait for the log writer, and which of them are dropped while it cannot write. Pure: notes in, notes out.

use std::collections::VecDeque;

use super::{Note, Noted};

const NOTES_MAX: usize = 64;
/// From this number on, input in one place is merged into one note.
const MANY: usize = NOTES_MAX / 2;
/// Limit of bytes of a merged note.
const TYPED_MAX: usize = 4096;

/// The waiting notes. The first may be on its way to the disk, and is not changed.
#[derive(Debug, Default)]
pub(super) struct Notes(VecDeque<Note>);

impl Notes {
    /// Adds a note. At the limit, while a disk hangs, older ones are dropped for it and counted. Messages are also in the journal; input is
    /// nowhere else.
    pub(super) fn push(&mut self, note: Note) {
        if self.0.len() >= MANY && self.joins_the_last(&note) {
            return;
        }
        if self.0.len() == NOTES_MAX {
            self.make_room();
        }
        self.0.push_back(note);
    }

    /// Queues notes that were written once and must be written again, before all others, as far as there is room.
    pub(super) fn again(&mut self, notes: Vec<Note>) {
        for note in notes.into_iter().rev() {
            self.0.push_front(note);
        }
        while self.0.len() > NOTES_MAX {
            self.make_room();
        }
    }

    pub(super) fn first(&self) -> Option<&Note> {
        self.0.front()
    }

    /// Removes `note`, which is written, if it is still the first.
    pub(super) fn written(&mut self, note: &Note) {
        if self.first() == Some(note) {
            self.0.pop_front();
        }
    }

    fn joins_the_last(&mut self, note: &Note) -> bool {
        let (Noted::Input(more), Some(last)) = (&note.what, self.0.back_mut()) else { return false };
        match &mut last.what {
            Noted::Input(bytes) if last.offset == note.offset && bytes.len() + more.len() <= TYPED_MAX => {
                bytes.extend_from_slice(more);
                true
            }
            _ => false,
        }
    }

    /// Merges the third note into the second one, so that the first stays as it is.
    fn make_room(&mut self) {
        let Some(third) = self.0.remove(2) else { return };
        let Some(second) = self.0.get_mut(1) else { return };
        let (notes, typed) =
            (size(&second.what).0 + size(&third.what).0, size(&second.what).1 + size(&third.what).1);
        second.what = Noted::Lost { notes, typed };
    }
}

/// How many notes a note stands for, and bytes of input in them.
fn size(what: &Noted) -> (u64, u64) {
    match what {
        Noted::Message(_) => (1, 0),
        Noted::Input(bytes) => (1, bytes.len() as u64),
        Noted::Lost { notes, typed } => (*notes, *typed),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn note(offset: u64, what: Noted) -> Note {
        Note { offset, at: Timestamp::UNIX_EPOCH, what }
    }

    fn typed(text: &str) -> Noted {
        Noted::Input(text.as_bytes().to_vec())
    }

    fn all(mut notes: Notes) -> Vec<Noted> {
        let mut all = Vec::new();
        while let Some(first) = notes.first().cloned() {
            notes.written(&first);
            all.push(first.what);
        }
        all
    }

    #[test]
    fn dropped_notes_are_counted_and_the_first_stays() {
        let mut notes = Notes::default();
        for number in 0..100 {
            notes.push(note(number, typed("12345")));
        }
        let all = all(notes);
        assert_eq!(all.len(), NOTES_MAX);
        assert_eq!(all[0], typed("12345"));
        assert_eq!(all[1], Noted::Lost { notes: 37, typed: 185 });
        assert_eq!(all[2..], vec![typed("12345"); 62]);
    }

    #[test]
    fn notes_to_be_written_again_come_first() {
        let mut notes = Notes::default();
        notes.push(note(9, typed("new")));
        notes.again(vec![note(3, typed("one")), note(4, typed("two"))]);
        assert_eq!(all(notes), [typed("one"), typed("two"), typed("new")]);
        let mut notes = Notes::default();
        notes.again(vec![note(3, typed("one")); 100]);
        assert_eq!(all(notes).len(), NOTES_MAX);
    }

    #[test]
    fn input_in_one_place_is_merged_once_there_is_much_of_it() {
        let mut notes = Notes::default();
        for _ in 0..1000 {
            notes.push(note(7, typed("12345")));
        }
        let all = all(notes);
        let bytes: usize = all.iter().map(|what| size(what).1 as usize).sum();
        assert_eq!(bytes, 5000);
        assert!(all.len() <= MANY + 2, "{}", all.len());
        assert!(all.iter().all(|what| matches!(what, Noted::Input(_))));
    }
}
