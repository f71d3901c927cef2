use serde::ser::{self, Serialize, Serializer};

use super::CodeError;

/// Writes values as bytes, by serde's data model: numbers as they are in memory, the
/// lowest byte first, so that each comes back to the bit; lengths and the numbers of
/// variants before what they are of; no names.
pub(super) struct Writer(pub(super) Vec<u8>);

macro_rules! numbers {
    ($($name:ident: $kind:ty,)*) => {
        $(fn $name(self, value: $kind) -> Result<(), CodeError> {
            self.0.extend_from_slice(&value.to_le_bytes());
            Ok(())
        })*
    };
}

impl Serializer for &mut Writer {
    type Ok = ();
    type Error = CodeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    numbers! {
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_f32: f32,
        serialize_f64: f64,
    }

    fn serialize_bool(self, value: bool) -> Result<(), CodeError> {
        self.serialize_u8(u8::from(value))
    }

    fn serialize_char(self, value: char) -> Result<(), CodeError> {
        self.serialize_u32(u32::from(value))
    }

    fn serialize_str(self, value: &str) -> Result<(), CodeError> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), CodeError> {
        self.serialize_u64(value.len() as u64)?;
        self.0.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), CodeError> {
        self.serialize_u8(0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CodeError> {
        self.serialize_u8(1)?;
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), CodeError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), CodeError> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        variant: u32,
        _: &'static str,
    ) -> Result<(), CodeError> {
        self.serialize_u32(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), CodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        variant: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), CodeError> {
        self.serialize_u32(variant)?;
        value.serialize(self)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self, CodeError> {
        let length = length.ok_or_else(|| ser::Error::custom("a length that is not known"))?;
        self.serialize_u64(length as u64)?;
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, CodeError> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, CodeError> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        variant: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, CodeError> {
        self.serialize_u32(variant)?;
        Ok(self)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self, CodeError> {
        self.serialize_seq(length)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, CodeError> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        variant: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, CodeError> {
        self.serialize_u32(variant)?;
        Ok(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// What has several parts has them one after another.
macro_rules! parts {
    ($($of:ident: $name:ident($($key:ty)?),)*) => {
        $(impl ser::$of for &mut Writer {
            type Ok = ();
            type Error = CodeError;

            fn $name<T: Serialize + ?Sized>(
                &mut self,
                $(_: $key,)?
                value: &T,
            ) -> Result<(), CodeError> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), CodeError> {
                Ok(())
            }
        })*
    };
}

parts! {
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(&'static str),
    SerializeStructVariant: serialize_field(&'static str),
}

impl ser::SerializeMap for &mut Writer {
    type Ok = ();
    type Error = CodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CodeError> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodeError> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), CodeError> {
        Ok(())
    }
}
