//! One decoder per column, chosen once.

use super::bytes::{Bytes, Form, roomy};
use super::cells::{Cells, Flaw, Nulls, SpecialCounts, SpecialPolicy};
use super::fixed;
use super::list::{Layout, List};
use super::nested::{Hstore, Interval, Range, Record, Vector};
use super::numeric::{Decimal, decode_whole};
use super::widths::{self, Sent};
use crate::encode::arrow_schema::data_type;
use crate::error::{Error, ErrorKind, Result};
use crate::run::schema::ColumnType;
use crate::source::postgres::types::Wire;
use arrow::array::{ArrayRef, BooleanArray, FixedSizeBinaryArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType, UInt32Type, UInt64Type, i256,
};
use std::sync::Arc;

enum Values {
    Bool(Vec<u8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>),
    Decimal128(Decimal, Vec<i128>),
    Decimal256(Decimal, Vec<i256>),
    /// A numeric without a fraction in a column of integers, between two of them.
    Whole((i64, i64), Vec<i64>),
    Uuid(Vec<[u8; 16]>),
    Bytes(Bytes),
    Interval(Interval),
    List(Box<List>),
    Record(Box<Record>),
    Range(Box<Range>),
    Hstore(Box<Hstore>),
    Vector(Vector),
}

/// The values of one column in the batch that is being built.
pub(super) struct Column {
    values: Values,
    /// What arrives, where it is of another width or kind than `values`.
    sent: Option<Sent>,
    nulls: Nulls,
    data_type: DataType,
}

impl Column {
    /// # Errors
    /// `Internal` for a pair of wire form and column type that [`types::map`](super::super::types::map) never makes.
    pub fn new(wire: &Wire, column_type: &ColumnType, nullable: bool, policy: SpecialPolicy) -> Result<Column> {
        use ColumnType as C;
        let part = |wire: &Wire, column_type: &ColumnType| Column::new(wire, column_type, true, policy);
        let data_type = data_type(column_type);
        let sent = Sent::of(wire, column_type);
        let values = match (wire, column_type) {
            (Wire::Bool, C::Bool) => Values::Bool(Vec::new()),
            (Wire::Oid, C::UInt32) => Values::UInt32(Vec::new()),
            (Wire::Xid8, C::UInt64) => Values::UInt64(Vec::new()),
            (Wire::Float8, C::Float64) => Values::Float64(Vec::new()),
            (_, C::Int16) if sent.is_some() || *wire == Wire::Int2 => Values::Int16(Vec::new()),
            (_, C::Int32) if sent.is_some() || *wire == Wire::Int4 => Values::Int32(Vec::new()),
            (_, C::Int64) if sent.is_some() || *wire == Wire::Int8 => Values::Int64(Vec::new()),
            (_, C::Float32) if sent.is_some() || *wire == Wire::Float4 => Values::Float32(Vec::new()),
            (_, C::Float64) if sent.is_some() => Values::Float64(Vec::new()),
            (_, C::Timestamp | C::TimestampUtc) if sent.is_some() => Values::Timestamp(Vec::new()),
            (Wire::Date, C::Date) => Values::Date(Vec::new()),
            (Wire::Time, C::Time) => Values::Time(Vec::new()),
            (Wire::Timestamp | Wire::Timestamptz, C::Timestamp | C::TimestampUtc) => Values::Timestamp(Vec::new()),
            (_, &C::Decimal { precision, scale }) if sent.is_some() || *wire == Wire::Numeric => match precision {
                ..=38 => Values::Decimal128(Decimal { precision, scale }, Vec::new()),
                _ => Values::Decimal256(Decimal { precision, scale }, Vec::new()),
            },
            (Wire::Numeric, C::Int16) => Values::Whole((i64::from(i16::MIN), i64::from(i16::MAX)), Vec::new()),
            (Wire::Numeric, C::Int32) => Values::Whole((i64::from(i32::MIN), i64::from(i32::MAX)), Vec::new()),
            (Wire::Numeric, C::Int64) => Values::Whole((i64::MIN, i64::MAX), Vec::new()),
            (Wire::Uuid, C::Uuid) => Values::Uuid(Vec::new()),
            (Wire::Text | Wire::Json, C::Text | C::Json) => Values::Bytes(Bytes::new(Form::Plain, true)),
            (Wire::Jsonb, C::Text | C::Json) => Values::Bytes(Bytes::new(Form::Jsonb, true)),
            (Wire::NumericText, C::Text) => Values::Bytes(Bytes::new(Form::Numeric, true)),
            (Wire::Char, C::Text) => Values::Bytes(Bytes::new(Form::Char, true)),
            (Wire::Bytea, C::Binary) => Values::Bytes(Bytes::new(Form::Plain, false)),
            (Wire::Interval, C::Interval) => match &data_type {
                DataType::Struct(fields) => Values::Interval(Interval::new(fields.clone())),
                _ => return Err(no_decoder(wire, column_type)),
            },
            (Wire::Array { element, dimensions }, C::List(_)) => {
                let scalar = (0..*dimensions).try_fold(column_type, |of, _| match of {
                    C::List(inner) => Some(&**inner),
                    _ => None,
                });
                let elements = part(element, scalar.ok_or_else(|| no_decoder(wire, column_type))?)?;
                list(Layout::Array { dimensions: usize::from(*dimensions) }, elements, &data_type)
                    .ok_or_else(|| no_decoder(wire, column_type))?
            }
            (Wire::Multirange(range), C::List(element)) => list(Layout::Multirange, part(range, element)?, &data_type)
                .ok_or_else(|| no_decoder(wire, column_type))?,
            (Wire::Record(wires), C::Struct(fields)) if wires.len() == fields.len() => match &data_type {
                DataType::Struct(arrow) => {
                    let columns = wires.iter().zip(fields).map(|(wire, field)| part(wire, &field.column_type));
                    let columns = columns.collect::<Result<Vec<_>>>()?;
                    Values::Record(Box::new(Record::new(columns, arrow.clone())))
                }
                _ => return Err(no_decoder(wire, column_type)),
            },
            (Wire::Range(end), C::Range(element)) => match &data_type {
                DataType::Struct(arrow) => {
                    let ends = [part(end, element)?, part(end, element)?];
                    Values::Range(Box::new(Range::new(ends, arrow.clone())))
                }
                _ => return Err(no_decoder(wire, column_type)),
            },
            (Wire::Hstore, C::Map) => match &data_type {
                DataType::Map(entries, _) => Values::Hstore(Box::new(Hstore::new(entries.clone()))),
                _ => return Err(no_decoder(wire, column_type)),
            },
            (Wire::Vector | Wire::HalfVector, C::List(_)) => match &data_type {
                DataType::List(element) if *element.data_type() == DataType::Float32 => {
                    Values::Vector(Vector::new(element.clone(), *wire == Wire::HalfVector))
                }
                _ => return Err(no_decoder(wire, column_type)),
            },
            _ => return Err(no_decoder(wire, column_type)),
        };
        Ok(Column { values, sent, nulls: Nulls::new(nullable, policy), data_type })
    }

    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    pub fn decode(&mut self, cells: Cells<'_>) -> Result<(), Flaw> {
        let nulls = &mut self.nulls;
        if let Some(sent) = self.sent {
            return match &mut self.values {
                Values::Int16(out) => sent.whole(cells, nulls, out),
                Values::Int32(out) => sent.whole(cells, nulls, out),
                Values::Int64(out) => sent.whole(cells, nulls, out),
                Values::Float32(out) => sent.float32(cells, nulls, out),
                Values::Float64(out) => sent.float64(cells, nulls, out),
                Values::Timestamp(out) => sent.timestamp(cells, nulls, out),
                Values::Decimal128(decimal, out) => sent.decimal128(cells, nulls, out, *decimal),
                Values::Decimal256(decimal, out) => sent.decimal256(cells, nulls, out, *decimal),
                _ => Err(widths::STRANGE),
            };
        }
        match &mut self.values {
            Values::Bool(out) => fixed::decode::<1, 5, _>(cells, nulls, out, fixed::boolean),
            Values::Int16(out) => fixed::decode::<2, 6, _>(cells, nulls, out, |bytes| Ok(i16::from_be_bytes(bytes))),
            Values::Int32(out) => fixed::decode::<4, 8, _>(cells, nulls, out, |bytes| Ok(i32::from_be_bytes(bytes))),
            Values::Int64(out) => fixed::decode::<8, 12, _>(cells, nulls, out, |bytes| Ok(i64::from_be_bytes(bytes))),
            Values::UInt32(out) => fixed::decode::<4, 8, _>(cells, nulls, out, |bytes| Ok(u32::from_be_bytes(bytes))),
            Values::UInt64(out) => fixed::decode::<8, 12, _>(cells, nulls, out, |bytes| Ok(u64::from_be_bytes(bytes))),
            Values::Float32(out) => fixed::decode::<4, 8, _>(cells, nulls, out, |bytes| Ok(f32::from_be_bytes(bytes))),
            Values::Float64(out) => fixed::decode::<8, 12, _>(cells, nulls, out, |bytes| Ok(f64::from_be_bytes(bytes))),
            Values::Date(out) => fixed::decode::<4, 8, _>(cells, nulls, out, fixed::date),
            Values::Time(out) => fixed::decode::<8, 12, _>(cells, nulls, out, fixed::time),
            Values::Timestamp(out) => fixed::decode::<8, 12, _>(cells, nulls, out, fixed::timestamp),
            Values::Decimal128(decimal, out) => decimal.decode128(cells, nulls, out),
            Values::Decimal256(decimal, out) => decimal.decode256(cells, nulls, out),
            Values::Whole(between, out) => decode_whole(cells, nulls, out, *between),
            Values::Uuid(out) => fixed::decode::<16, 20, _>(cells, nulls, out, Ok),
            Values::Bytes(bytes) => bytes.decode(cells, nulls),
            Values::Interval(interval) => interval.decode(cells, nulls),
            Values::List(list) => list.decode(cells, nulls),
            Values::Record(record) => record.decode(cells, nulls),
            Values::Range(range) => range.decode(cells, nulls),
            Values::Hstore(hstore) => hstore.decode(cells, nulls),
            Values::Vector(vector) => vector.decode(cells, nulls),
        }
    }

    /// Bytes of Arrow memory in use, without the validity bitmap.
    pub fn size(&self) -> usize {
        match &self.values {
            Values::Bool(values) => values.len(),
            Values::Int16(values) => size_of_val(values.as_slice()),
            Values::Int32(values) | Values::Date(values) => size_of_val(values.as_slice()),
            Values::Int64(values) | Values::Time(values) | Values::Timestamp(values) => size_of_val(values.as_slice()),
            Values::UInt32(values) => size_of_val(values.as_slice()),
            Values::UInt64(values) => size_of_val(values.as_slice()),
            Values::Float32(values) => size_of_val(values.as_slice()),
            Values::Float64(values) => size_of_val(values.as_slice()),
            Values::Decimal128(_, values) => size_of_val(values.as_slice()),
            Values::Decimal256(_, values) => size_of_val(values.as_slice()),
            Values::Whole(_, values) => size_of_val(values.as_slice()),
            Values::Uuid(values) => 16 * values.len(),
            Values::Bytes(bytes) => bytes.size(),
            Values::Interval(interval) => interval.size(),
            Values::List(list) => list.size(),
            Values::Record(record) => record.size(),
            Values::Range(range) => range.size(),
            Values::Hstore(hstore) => hstore.size(),
            Values::Vector(vector) => vector.size(),
        }
    }

    /// How many bytes nearly every field has, where the type says so.
    pub fn width(&self) -> Option<u32> {
        if let Some(sent) = self.sent {
            return Some(sent.width());
        }
        match &self.values {
            Values::Decimal128(..) | Values::Decimal256(..) | Values::Whole(..) | Values::Bytes(_) => None,
            Values::List(_) | Values::Hstore(_) | Values::Vector(_) | Values::Record(_) | Values::Range(_) => None,
            // What is sent takes as many bytes as what is kept.
            _ => u32::try_from(self.null_bytes()).ok(),
        }
    }

    /// Arrow bytes that a NULL takes, without its bit.
    pub fn null_bytes(&self) -> usize {
        match &self.values {
            Values::Bool(_) => 1,
            Values::Int16(_) => 2,
            Values::Int32(_) | Values::UInt32(_) | Values::Float32(_) | Values::Date(_) => 4,
            Values::Int64(_) | Values::UInt64(_) | Values::Float64(_) | Values::Time(_) | Values::Timestamp(_) => 8,
            Values::Whole(..) => 8,
            Values::Decimal128(..) | Values::Uuid(_) | Values::Interval(_) => 16,
            Values::Decimal256(..) => 32,
            // An offset.
            Values::Bytes(_) | Values::List(_) | Values::Hstore(_) | Values::Vector(_) => 4,
            Values::Record(record) => record.fields.iter().map(Column::null_bytes).sum(),
            Values::Range(range) => 3 + 2 * range.ends[0].null_bytes(),
        }
    }

    /// Whether a few bytes on the wire may become many: numbers that are printed, and NULL for a composite of many fields.
    pub fn swells(&self) -> bool {
        const OFTEN_TAKEN: usize = 32;
        let inside = match &self.values {
            Values::Bytes(bytes) => bytes.prints(),
            Values::List(list) => list.elements.swells(),
            Values::Record(record) => record.fields.iter().any(Column::swells),
            Values::Range(range) => range.ends[0].swells(),
            _ => false,
        };
        inside || self.null_bytes() > OFTEN_TAKEN
    }

    /// Arrow bytes that a value takes, at most; `None` is NULL.
    pub fn room(&self, value: Option<&[u8]>) -> usize {
        let inside = value.map_or(0, |value| match &self.values {
            Values::Bytes(bytes) => bytes.room(value),
            Values::List(list) => list.room(value),
            Values::Record(record) => record.room(value),
            Values::Range(range) => range.room(value),
            _ => value.len(),
        });
        inside.max(self.null_bytes())
    }

    /// Special values since the beginning, those inside of other values included.
    pub fn special(&self) -> SpecialCounts {
        let parts: &[Column] = match &self.values {
            Values::List(list) => std::slice::from_ref(&list.elements),
            Values::Record(record) => &record.fields,
            Values::Range(range) => &range.ends,
            _ => &[],
        };
        let parts = parts.iter().map(Column::special);
        parts.fold(self.nulls.special, |sum, part| std::array::from_fn(|kind| sum[kind] + part[kind]))
    }

    /// The column so far; what is decoded next begins a new one.
    ///
    /// # Errors
    /// The first row, counted within the batch, whose text is not UTF-8.
    pub fn finish(&mut self) -> Result<ArrayRef, usize> {
        let nulls = self.nulls.finish();
        let data_type = &self.data_type;
        Ok(match &mut self.values {
            Values::Bool(values) => {
                let bits = BooleanBuffer::collect_bool(values.len(), |i| values.get(i) == Some(&1));
                values.clear();
                Arc::new(BooleanArray::new(bits, nulls))
            }
            Values::Int16(values) => primitive::<Int16Type>(values, nulls, data_type),
            Values::Int32(values) => primitive::<Int32Type>(values, nulls, data_type),
            Values::Int64(values) => primitive::<Int64Type>(values, nulls, data_type),
            Values::UInt32(values) => primitive::<UInt32Type>(values, nulls, data_type),
            Values::UInt64(values) => primitive::<UInt64Type>(values, nulls, data_type),
            Values::Float32(values) => primitive::<Float32Type>(values, nulls, data_type),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls, data_type),
            Values::Date(values) => primitive::<Date32Type>(values, nulls, data_type),
            Values::Time(values) => primitive::<Time64MicrosecondType>(values, nulls, data_type),
            Values::Timestamp(values) => primitive::<TimestampMicrosecondType>(values, nulls, data_type),
            Values::Decimal128(_, values) => primitive::<Decimal128Type>(values, nulls, data_type),
            Values::Decimal256(_, values) => primitive::<Decimal256Type>(values, nulls, data_type),
            // In range: each was compared with what the column holds.
            Values::Whole(_, values) => match data_type {
                DataType::Int16 => {
                    let mut narrow = values.drain(..).map(|value| value as i16).collect();
                    primitive::<Int16Type>(&mut narrow, nulls, data_type)
                }
                DataType::Int32 => {
                    let mut narrow = values.drain(..).map(|value| value as i32).collect();
                    primitive::<Int32Type>(&mut narrow, nulls, data_type)
                }
                _ => primitive::<Int64Type>(values, nulls, data_type),
            },
            Values::Uuid(values) => {
                let fresh = Vec::with_capacity(roomy(values.len()));
                let values = std::mem::replace(values, fresh).into_flattened();
                Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(values), nulls).map_err(|_| 0_usize)?)
            }
            Values::Bytes(bytes) => bytes.finish(nulls)?,
            Values::Interval(interval) => interval.finish(nulls)?,
            Values::List(list) => list.finish(nulls)?,
            Values::Record(record) => record.finish(nulls)?,
            Values::Range(range) => range.finish(nulls)?,
            Values::Hstore(hstore) => hstore.finish(nulls)?,
            Values::Vector(vector) => vector.finish(nulls)?,
        })
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> ArrayRef {
    let fresh = Vec::with_capacity(roomy(values.len()));
    let values = std::mem::replace(values, fresh);
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls).with_data_type(data_type.clone()))
}

fn list(layout: Layout, elements: Column, data_type: &DataType) -> Option<Values> {
    let DataType::List(field) = data_type else { return None };
    List::new(layout, elements, field.clone()).map(|list| Values::List(Box::new(list)))
}

fn no_decoder(wire: &Wire, column_type: &ColumnType) -> Error {
    Error::new(ErrorKind::Internal, format!("no decoder reads {wire:?} into a column of type {column_type}"))
}
