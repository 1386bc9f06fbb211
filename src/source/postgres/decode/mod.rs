//! From the bytes of a binary COPY to Arrow batches, without a row in between.
//!
//! A **scan** walks over the lengths of a block of rows and notes where each field begins; it is the only place that trusts nothing.
//! Then each column runs over its own fields of the block in one tight loop. A block has at most [`BLOCK_FIELDS`] fields, so
//! that its positions, and mostly its bytes, are still in the nearest cache.
//!
//! The server sends one row per message. Nothing here depends on it: a row that lies across messages or chunks is put together
//! in `carry` first.

mod bytes;
mod cells;
mod column;
mod fixed;
mod list;
mod nested;
mod numeric;
mod shown;
mod widths;

use super::types::{Mapping, Wire};
use crate::error::{Error, ErrorKind, Result};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use cells::{Cells, Flaw, Problem};
pub use cells::{Special, SpecialCounts, SpecialPolicy};
use column::Column;
use std::sync::Arc;

/// Fields of one block: their positions fill a good part of a first-level cache, not more.
const BLOCK_FIELDS: usize = 4096;

/// The signature, 32 bits of flags, and the length of an extension that nobody has defined yet.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
const HEADER_BYTES: usize = SIGNATURE.len() + 8;
const LONGEST_EXTENSION: usize = 64 * 1024;

/// The server builds a row in a buffer that cannot be larger.
const LONGEST_ROW: usize = 1 << 30;

/// Arrow bytes of one block, and of one batch, where few bytes on the wire become many: a numeric of 10 bytes may print as
/// 131,072 digits. Elsewhere both are bounded by the bytes that arrive.
const SWOLLEN_BLOCK: usize = 1 << 20;
const SWOLLEN_BATCH: usize = 4 << 20;

/// A length that no field has.
const NO_WIDTH: u32 = u32::MAX - 1;

/// Memory that `carry` may keep after a long row.
const CARRY_KEPT: usize = 1 << 20;

/// What is to be decoded into one column.
#[derive(Debug, Clone)]
pub struct DecodeColumn {
    pub name: String,
    pub nullable: bool,
    pub mapping: Mapping,
    /// What becomes of values that the column's type has no room for.
    pub special_values: SpecialPolicy,
}

impl DecodeColumn {
    /// A column whose special values take their usual way.
    pub fn new(name: impl Into<String>, nullable: bool, mapping: Mapping) -> DecodeColumn {
        DecodeColumn { name: name.into(), nullable, mapping, special_values: SpecialPolicy::Usual }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    /// Bytes of the header's extension that are still to be skipped.
    Extension(usize),
    Rows,
    Ended,
}

/// The message that a chunk ended in.
#[derive(Debug, Clone, Copy, Default)]
struct Message {
    /// Bytes of a header that was cut.
    header: [u8; 5],
    header_bytes: usize,
    /// Bytes of the payload that are still to come.
    left: usize,
}

/// Decodes one COPY stream.
pub struct Decoder {
    columns: Vec<DecodeColumn>,
    decoders: Vec<Column>,
    /// By which columns an error names its row.
    key: Vec<usize>,
    schema: SchemaRef,
    max_value_bytes: usize,
    stage: Stage,
    message: Message,
    /// The beginning of something that has not arrived whole.
    carry: Vec<u8>,
    /// The usual length of each column's fields.
    widths: Vec<u32>,
    /// Room for the positions of the fields of a block, row by row.
    at: Vec<u32>,
    /// For each row of the block its position in the data and in the stream.
    rows_at: Vec<(u32, u64)>,
    block_rows: usize,
    /// The columns whose values may take far more room than they have bytes.
    swelling: Vec<usize>,
    /// What the rows of the block, and of the batch, take in these.
    swollen_block: usize,
    swollen_batch: usize,
    /// Bytes of payload that were understood.
    offset: u64,
    batch_rows: usize,
    total_rows: u64,
}

impl Decoder {
    /// # Errors
    /// `Internal` when a mapping names a wire form that its column type cannot hold.
    pub fn new(columns: &[DecodeColumn], max_value_bytes: usize) -> Result<Decoder> {
        let decoder_of = |column: &DecodeColumn| {
            let DecodeColumn { name, nullable, mapping, special_values } = column;
            Column::new(&mapping.wire, &mapping.column_type, *nullable, *special_values)
                .map_err(|error| error.at(format_args!("column {name:?}")))
        };
        let decoders = columns.iter().map(decoder_of).collect::<Result<Vec<_>>>()?;
        let field_of = |(column, decoder): (&DecodeColumn, &Column)| {
            Field::new(&column.name, decoder.data_type().clone(), column.nullable)
        };
        let fields: Vec<_> = columns.iter().zip(&decoders).map(field_of).collect();
        let block_rows = (BLOCK_FIELDS / columns.len().max(1)).max(1);
        let widths = decoders.iter().map(|decoder| decoder.width().unwrap_or(NO_WIDTH)).collect();
        let swelling = decoders.iter().enumerate().filter(|(_, decoder)| decoder.swells());
        let swelling = swelling.map(|(index, _)| index).collect();
        Ok(Decoder {
            columns: columns.to_vec(),
            decoders,
            key: Vec::new(),
            schema: Arc::new(Schema::new(fields)),
            max_value_bytes: max_value_bytes.min(LONGEST_ROW),
            stage: Stage::Header,
            message: Message::default(),
            carry: Vec::new(),
            at: vec![0; block_rows * columns.len()],
            rows_at: Vec::new(),
            widths,
            block_rows,
            swelling,
            swollen_block: 0,
            swollen_batch: 0,
            offset: 0,
            batch_rows: 0,
            total_rows: 0,
        })
    }

    /// Lets errors name a row by the values of these columns, given by index.
    pub fn with_key(mut self, key: Vec<usize>) -> Decoder {
        self.key = key;
        self.key.retain(|column| *column < self.columns.len());
        self
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows in the batch that is being built.
    pub fn rows(&self) -> usize {
        self.batch_rows
    }

    /// Rows since the beginning of the stream.
    pub fn total_rows(&self) -> u64 {
        self.total_rows
    }

    /// Approximate Arrow memory of the batch that is being built.
    pub fn buffered_bytes(&self) -> usize {
        self.decoders.iter().map(Column::size).sum()
    }

    /// Whether the stream's trailer has been seen.
    pub fn ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Bytes of payload that were understood.
    pub fn stream_offset(&self) -> u64 {
        self.offset
    }

    /// For each column that had special values: its index, and how many of each kind since the beginning of the stream.
    pub fn special_values(&self) -> Vec<(usize, SpecialCounts)> {
        let counts = self.decoders.iter().map(Column::special).enumerate();
        counts.filter(|(_, counts)| counts.iter().any(|count| *count > 0)).collect()
    }

    /// Takes the next bytes of the stream's payload, cut anywhere.
    ///
    /// # Errors
    /// `SourceProtocol` with the byte offset for bytes that are no COPY stream; `SourceValue` with the column for a value that it
    /// cannot hold. The decoder is of no use afterwards.
    pub fn push(&mut self, payload: &[u8]) -> Result<()> {
        self.take_payload(payload, 0, payload.len())?;
        self.decode_block(payload)
    }

    /// Takes the next bytes of a stream of CopyData messages, cut anywhere: what a [`Chunk`](super::Chunk) holds.
    ///
    /// # Errors
    /// As [`Decoder::push`].
    pub fn push_messages(&mut self, chunk: &[u8]) -> Result<()> {
        let mut taken = 0;
        while taken < chunk.len() {
            taken += self.push_rows(&chunk[taken..], usize::MAX)?;
        }
        Ok(())
    }

    /// [`Decoder::push_messages`] that stops after the message with which the batch has `most` rows, or has become far larger
    /// than the bytes that it was made of. How many bytes of `chunk` were taken: the rest belongs to the next batch. A server
    /// sends each row in a message of its own, so the batch has no row more.
    ///
    /// # Errors
    /// As [`Decoder::push`].
    pub fn push_rows(&mut self, chunk: &[u8], most: usize) -> Result<usize> {
        let mut position = 0;
        loop {
            if self.message.left == 0 {
                // The rows of the block are not in the batch yet, but on their way.
                let full = self.batch_rows + self.rows_at.len() >= most;
                if full || (position > 0 && self.swollen_batch >= SWOLLEN_BATCH) {
                    break;
                }
                match self.message_header(chunk, position)? {
                    Some(behind) => position = behind,
                    // Its beginning is kept.
                    None => {
                        position = chunk.len();
                        break;
                    }
                }
            }
            let end = position + self.message.left.min(chunk.len() - position);
            self.take_payload(chunk, position, end)?;
            self.message.left -= end - position;
            position = end;
            if position == chunk.len() {
                break;
            }
        }
        self.decode_block(chunk)?;
        Ok(position)
    }

    /// Reads the header of the message at `position`; `None` when it has not arrived whole.
    #[inline(always)]
    fn message_header(&mut self, chunk: &[u8], position: usize) -> Result<Option<usize>> {
        let rest = chunk.get(position..).unwrap_or_default();
        if let (0, Some(header)) = (self.message.header_bytes, rest.first_chunk()) {
            self.message.left = self.payload_length(*header)?;
            return Ok(Some(position + header.len()));
        }
        let have = self.message.header_bytes;
        let taken = rest.len().min(self.message.header.len() - have);
        self.message.header[have..have + taken].copy_from_slice(&rest[..taken]);
        self.message.header_bytes += taken;
        if self.message.header_bytes < self.message.header.len() {
            return Ok(None);
        }
        self.message.header_bytes = 0;
        self.message.left = self.payload_length(self.message.header)?;
        Ok(Some(position + taken))
    }

    #[inline(always)]
    fn payload_length(&self, [kind, length @ ..]: [u8; 5]) -> Result<usize> {
        match (kind, u32::from_be_bytes(length)) {
            (b'd', length @ 4..=0x7fff_ffff) => Ok(length as usize - 4),
            (b'd', length) => Err(self.broken(format_args!("a row message claims a length of {length}"))),
            (kind, _) => Err(self.broken(format_args!("a message of type {kind:#04x} among the rows"))),
        }
    }

    /// Takes the payload bytes `data[start..end]`. Rows that lie whole in them stay in the block, whose data is `data`.
    #[inline(always)]
    fn take_payload(&mut self, data: &[u8], start: usize, end: usize) -> Result<()> {
        if self.carry.is_empty() {
            let understood = self.scan(data, start, end)?;
            if understood < end {
                self.carry.extend_from_slice(&data[understood..end]);
            }
            return Ok(());
        }
        self.take_carried(data, &data[start..end])
    }

    /// Appends to what was carried over, and takes from it what is now whole.
    #[cold]
    fn take_carried(&mut self, data: &[u8], payload: &[u8]) -> Result<()> {
        // The rows in the block come before those in the carry.
        self.decode_block(data)?;
        if self.carry.len() + payload.len() > LONGEST_ROW + HEADER_BYTES {
            return Err(self.broken(format_args!("a row is longer than the server can send")));
        }
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(payload);
        let understood = self.scan(&carry, 0, carry.len())?;
        self.decode_block(&carry)?;
        carry.drain(..understood);
        if carry.is_empty() && carry.capacity() > CARRY_KEPT {
            carry = Vec::new();
        }
        self.carry = carry;
        Ok(())
    }

    /// Understands as much of `data[position..end]` as has arrived whole, and returns where the rest begins.
    #[inline(always)]
    fn scan(&mut self, data: &[u8], mut position: usize, end: usize) -> Result<usize> {
        while position < end {
            let behind = match self.stage {
                Stage::Rows => self.scan_row(data, position, end)?,
                _ => self.scan_around(&data[position..end])?.map(|length| position + length),
            };
            let Some(behind) = behind else { break };
            self.offset += (behind - position) as u64;
            position = behind;
        }
        Ok(position)
    }

    /// Everything but rows: how many bytes of `rest` are understood, `None` when too few have arrived.
    #[cold]
    fn scan_around(&mut self, rest: &[u8]) -> Result<Option<usize>> {
        match self.stage {
            Stage::Rows => Ok(None),
            Stage::Ended => Err(self.broken(format_args!("{} bytes follow the trailer", rest.len()))),
            Stage::Extension(left) => {
                let skipped = left.min(rest.len());
                self.stage = if skipped == left { Stage::Rows } else { Stage::Extension(left - skipped) };
                Ok(Some(skipped))
            }
            Stage::Header => {
                let known = rest.len().min(SIGNATURE.len());
                if rest[..known] != SIGNATURE[..known] {
                    return Err(self.broken(format_args!("the stream does not begin as a binary COPY")));
                }
                let Some((_, [f0, f1, f2, f3, length @ ..])) = rest.first_chunk::<HEADER_BYTES>().and_then(|header| {
                    header
                        .split_first_chunk::<{ SIGNATURE.len() }>()
                        .and_then(|(s, rest)| Some((s, *rest.first_chunk::<8>()?)))
                }) else {
                    return Ok(None);
                };
                let (flags, length) = (u32::from_be_bytes([f0, f1, f2, f3]), u32::from_be_bytes(length) as usize);
                // The upper half are flags that change the format.
                if flags >> 16 != 0 || length > LONGEST_EXTENSION {
                    return Err(self.broken(format_args!("a COPY header of unknown kind (flags {flags:#010x})")));
                }
                self.stage = if length == 0 { Stage::Rows } else { Stage::Extension(length) };
                Ok(Some(HEADER_BYTES))
            }
        }
    }

    /// Notes the fields of the row at `position`, and returns where it ends; `None` when it has not arrived whole.
    #[inline(always)]
    fn scan_row(&mut self, data: &[u8], position: usize, end: usize) -> Result<Option<usize>> {
        if self.rows_at.len() == self.block_rows {
            self.decode_block(data)?;
        }
        let data = &data[..end];
        let Some(count) = data[position..].first_chunk() else { return Ok(None) };
        if i16::from_be_bytes(*count) as usize != self.decoders.len() {
            self.trailer(i16::from_be_bytes(*count))?;
            return Ok(Some(position + 2));
        }
        let noted = self.rows_at.len() * self.widths.len();
        let places = self.at.get_mut(noted..).unwrap_or_default();
        let mut cursor = position + 2;
        for (index, (place, width)) in places.iter_mut().zip(&self.widths).enumerate() {
            let Some(length) = data.get(cursor..cursor + 4).and_then(|rest| rest.first_chunk()) else {
                return Ok(None);
            };
            let length = u32::from_be_bytes(*length);
            *place = cursor as u32;
            cursor += 4;
            if length == *width {
                // The same number as `length`, but the processor need not wait for it to know where the next field begins.
                cursor += *width as usize;
            } else if length as usize <= self.max_value_bytes {
                cursor += length as usize;
            } else if length.cast_signed() != cells::NULL {
                return Err(self.impossible_length(data, index, length.cast_signed()));
            }
        }
        if cursor > end {
            return Ok(None);
        }
        self.rows_at.push((position as u32, self.offset));
        if !self.swelling.is_empty() {
            self.bound_row(data, noted)?;
        }
        Ok(Some(cursor))
    }

    /// Notes how much room the row whose positions begin at `noted` takes, and ends the block when that is enough.
    fn bound_row(&mut self, data: &[u8], noted: usize) -> Result<()> {
        let mut row = 0;
        for i in 0..self.swelling.len() {
            let index = self.swelling[i];
            let field = self.at.get(noted + index).and_then(|at| data.get(*at as usize..)).unwrap_or_default();
            let length = cells::length(field);
            let value = (length != cells::NULL).then(|| cells::value(field, length));
            let room = self.decoders[index].room(value);
            row += room;
            // What a NULL takes is the column's, and not the value's.
            if value.is_some() && (room > self.max_value_bytes || row > LONGEST_ROW) {
                return Err(self.impossible_room(data, index, room));
            }
        }
        self.swollen_block += row;
        self.swollen_batch += row;
        if self.swollen_block >= SWOLLEN_BLOCK {
            self.decode_block(data)?;
        }
        Ok(())
    }

    /// The trailer looks like a row of -1 fields.
    #[cold]
    fn trailer(&mut self, count: i16) -> Result<()> {
        if count != -1 {
            let expected = self.decoders.len();
            return Err(self.broken(format_args!("a row has {count} fields instead of {expected}")));
        }
        self.stage = Stage::Ended;
        Ok(())
    }

    /// Runs every column over its fields of the block.
    fn decode_block(&mut self, data: &[u8]) -> Result<()> {
        let rows = self.rows_at.len();
        if rows == 0 {
            return Ok(());
        }
        let stride = self.decoders.len();
        let at = self.at.get(..rows * stride).unwrap_or_default();
        for (index, decoder) in self.decoders.iter_mut().enumerate() {
            let cells = Cells { data, at: &at[index..], stride };
            if let Err(flaw) = decoder.decode(cells) {
                return Err(self.flawed(data, index, flaw));
            }
        }
        self.rows_at.clear();
        self.swollen_block = 0;
        self.batch_rows += rows;
        self.total_rows += rows as u64;
        Ok(())
    }

    /// The batch so far, possibly of no rows. What is decoded next begins a new one.
    ///
    /// # Errors
    /// `SourceValue` when text is not UTF-8, which happens in databases without an encoding.
    pub fn take_batch(&mut self) -> Result<RecordBatch> {
        self.swollen_batch = 0;
        let mut arrays = Vec::with_capacity(self.decoders.len());
        for index in 0..self.decoders.len() {
            match self.decoders[index].finish() {
                Ok(array) => arrays.push(array),
                Err(row) => return Err(self.not_utf8(&arrays, index, row)),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.batch_rows)));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("decoded columns do not make a batch: {error}")))
    }

    fn broken(&self, what: std::fmt::Arguments<'_>) -> Error {
        Error::new(ErrorKind::SourceProtocol, format!("the COPY stream is broken at byte {}: {what}", self.offset))
    }

    /// In the row behind those of the block, of which the columns before this one were noted.
    #[cold]
    fn impossible_length(&self, data: &[u8], index: usize, length: i32) -> Error {
        let name = &self.columns[index].name;
        if length < 0 {
            return self.broken(format_args!("column {name:?} has a length of {length}"));
        }
        let known = self.key.iter().all(|key| *key < index);
        let key = if known { self.key_of(data, self.rows_at.len()) } else { String::new() };
        let allowed = self.max_value_bytes;
        let what = format!("column {name:?} holds a value{key} of {length} bytes; {allowed} are allowed");
        Error::new(ErrorKind::SourceValue, what).with_hint(TOO_LARGE)
    }

    /// `row` of the batch, whose first columns are `arrays`.
    #[cold]
    fn not_utf8(&mut self, arrays: &[ArrayRef], index: usize, row: usize) -> Error {
        let keys: Vec<(usize, Option<ArrayRef>)> =
            self.key.iter().map(|&key| (key, arrays.get(key).cloned())).collect();
        let shown = keys.into_iter().map(|(key, array)| {
            let array = array.or_else(|| self.decoders[key].finish().ok().filter(|_| key != index));
            let value = array.and_then(|array| shown::key_cell(&array, row)).unwrap_or_else(|| "?".to_owned());
            format!("{} = {value}", self.columns[key].name)
        });
        let key = in_parentheses(shown.collect());
        let name = &self.columns[index].name;
        let row = self.total_rows - self.batch_rows as u64 + row as u64 + 1;
        let what = format!("column {name:?}: the text in row {row} of the stream{key} is not UTF-8");
        let hint = format!("Deliver the bytes as they are with `columns: {{{name}: binary}}`.");
        Error::new(ErrorKind::SourceValue, what).with_hint(hint)
    }

    /// ` (id = 17)`, of a row of the block; empty where no key is known.
    fn key_of(&self, data: &[u8], row: usize) -> String {
        let shown = self.key.iter().filter_map(|&column| {
            let field = data.get(*self.at.get(row * self.columns.len() + column)? as usize..)?;
            let DecodeColumn { name, mapping, .. } = &self.columns[column];
            Some(format!("{name} = {}", shown::key_value(&mapping.wire, field)))
        });
        in_parentheses(shown.collect())
    }

    /// The binary form of the value at a position: a column's own, or that of an array's elements.
    fn wire_at(&self, index: usize, row: usize, at: u32) -> Option<&Wire> {
        let mut wire = &self.columns[index].mapping.wire;
        if self.at.get(row * self.columns.len() + index) == Some(&at) {
            return Some(wire);
        }
        while let Wire::Array { element, .. } = wire {
            wire = element;
        }
        Some(wire).filter(|wire| !matches!(wire, Wire::Record(_) | Wire::Range(_) | Wire::Multirange(_)))
    }

    #[cold]
    fn impossible_room(&self, data: &[u8], index: usize, room: usize) -> Error {
        let (name, allowed) = (&self.columns[index].name, self.max_value_bytes);
        let key = self.key_of(data, self.rows_at.len().saturating_sub(1));
        let what =
            format!("column {name:?} holds a value{key} that takes {room} bytes when decoded; {allowed} are allowed");
        Error::new(ErrorKind::SourceValue, what).with_hint(TOO_LARGE)
    }

    #[cold]
    fn flawed(&self, data: &[u8], index: usize, flaw: Flaw) -> Error {
        let DecodeColumn { name, mapping, .. } = &self.columns[index];
        let row = self.rows_at.partition_point(|(position, _)| *position <= flaw.at).saturating_sub(1);
        let (position, offset) = self.rows_at.get(row).copied().unwrap_or_default();
        let offset = offset + u64::from(flaw.at.saturating_sub(position));
        let number = self.wire_at(index, row, flaw.at).and_then(|wire| shown::number(wire, data, flaw.at));
        let key = self.key_of(data, row);
        let row = self.total_rows + row as u64 + 1;
        let broken = |what: String| {
            let what = format!("the COPY stream is broken at byte {offset}: column {name:?}: {what}");
            Error::new(ErrorKind::SourceProtocol, what)
        };
        match flaw.problem {
            Problem::Null => {
                let what =
                    format!("column {name:?} is declared NOT NULL, but row {row} of the stream{key} has a NULL in it");
                Error::new(ErrorKind::SourceValue, what)
                    .with_hint("Correct the table or view, or leave the column out in a query.")
            }
            Problem::Width { expected, got } => broken(format!("a value has {got} bytes instead of {expected}")),
            Problem::Malformed(what) => broken(what.to_owned()),
            Problem::UnfitForRequired(special) => {
                let value = special.shown();
                let what =
                    format!("column {name:?}: row {row} of the stream{key} holds {value}, and is declared NOT NULL");
                let nearest = match special {
                    Special::NotANumber => "",
                    _ => ", or the nearest value with `types: {special_values: clamp}`",
                };
                let hint = format!("Deliver the column as text with `columns: {{{name}: text}}`{nearest}.");
                Error::new(ErrorKind::SourceValue, what).with_hint(hint)
            }
            Problem::Dimensions { have, declared } => {
                let have = dimensions(have);
                let what = format!(
                    "column {name:?}: row {row} of the stream{key} holds an array of {have}, and the column takes those of \
                     {declared}"
                );
                // What is inside of another value is not measured.
                let measured = match mapping.wire {
                    Wire::Array { .. } => ", or let the run look at all of them first with `types: {arrays: probe}`",
                    _ => "",
                };
                let hint = format!(
                    "It takes as many dimensions as it was declared with, and one where a query does not say. Deliver it as \
                     text with `columns: {{{name}: text}}`{measured}."
                );
                Error::new(ErrorKind::SourceValue, what).with_hint(hint)
            }
            Problem::Unfit(value) => {
                let holder = mapping.column_type.told();
                let value = number.as_deref().unwrap_or(value);
                let what = format!(
                    "column {name:?}: row {row} of the stream{key} holds {value}, which a column of type {holder} cannot"
                );
                let hint = format!("Deliver the column as text with `columns: {{{name}: text}}`.");
                Error::new(ErrorKind::SourceValue, what).with_hint(hint)
            }
            Problem::Overfull => {
                Error::new(ErrorKind::Internal, format!("column {name:?}: a batch has grown beyond 2 GiB"))
            }
        }
    }
}

fn dimensions(count: usize) -> String {
    format!("{count} dimension{}", if count == 1 { "" } else { "s" })
}

/// The limit is no part of an export's definition.
const TOO_LARGE: &str = "Raise `tuning.max_value_mb`, with which the run can be resumed as well, or cast or shorten the \
                         value in a query.";

fn in_parentheses(parts: Vec<String>) -> String {
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::schema::ColumnType;
    use crate::source::postgres::types::Select;

    /// A stream of rows of an integer and a text.
    fn stream(rows: &[(i32, &[u8])]) -> Vec<u8> {
        let mut stream = SIGNATURE.to_vec();
        stream.extend([0; 8]);
        for (id, text) in rows {
            stream.extend(2_i16.to_be_bytes());
            stream.extend(4_i32.to_be_bytes());
            stream.extend(id.to_be_bytes());
            stream.extend((text.len() as i32).to_be_bytes());
            stream.extend(*text);
        }
        stream
    }

    fn error(columns: &[DecodeColumn], key: Vec<usize>, rows: &[(i32, &[u8])]) -> String {
        let mut decoder = Decoder::new(columns, 1 << 20).expect("the columns are decodable").with_key(key);
        let decoded = decoder.push(&stream(rows)).and_then(|()| decoder.take_batch());
        decoded.expect_err("the stream has a flaw").what().to_owned()
    }

    fn column(name: &str, wire: Wire, column_type: ColumnType) -> DecodeColumn {
        DecodeColumn::new(name, true, Mapping { wire, column_type, select: Select::Plain })
    }

    #[test]
    fn text_that_is_not_utf8_names_its_row_by_the_key_wherever_the_key_stands() {
        let id = || column("id", Wire::Int4, ColumnType::Int32);
        let text = column("note", Wire::Text, ColumnType::Text);
        let columns = [id(), text.clone()];
        let rows: [(i32, &[u8]); 2] = [(1, b"fine"), (77, &[0xff])];
        assert!(error(&columns, vec![0], &rows).contains("row 2 of the stream (id = \"77\") is not UTF-8"));
        assert!(error(&columns, vec![], &rows).contains("row 2 of the stream is not UTF-8"));
        // A key that is itself what is wrong cannot be shown.
        assert!(error(&columns, vec![1], &rows).contains("(note = ?)"));
        assert!(error(&columns, vec![9], &rows).contains("row 2 of the stream is"), "no such column");
    }
}
