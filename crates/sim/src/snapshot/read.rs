use serde::de::value::U32Deserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer as _, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::CodeError;

/// Reads what a [`Writer`](super::Writer) wrote. Holds what is left.
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], CodeError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CodeError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], CodeError> {
        let (number, rest) = self.0.split_first_chunk().ok_or(CodeError::Short)?;
        self.0 = rest;
        Ok(*number)
    }

    fn length(&mut self) -> Result<usize, CodeError> {
        let length = u64::from_le_bytes(self.number()?);
        usize::try_from(length).map_err(|_| CodeError::Short)
    }

    fn bit(&mut self) -> Result<bool, CodeError> {
        match self.number()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(CodeError::Value("neither yes nor no".to_owned())),
        }
    }

    fn text(&mut self) -> Result<&'b str, CodeError> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(de::Error::custom)
    }
}

/// No type here is read without being known.
fn unknown<T>() -> Result<T, CodeError> {
    Err(CodeError::Value("a type that is not known".to_owned()))
}

macro_rules! numbers {
    ($($name:ident: $visit:ident $kind:ty,)*) => {
        $(fn $name<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, CodeError> {
            visitor.$visit(<$kind>::from_le_bytes(self.number()?))
        })*
    };
}

impl<'b> Deserializer<'b> for &mut Reader<'b> {
    type Error = CodeError;

    numbers! {
        deserialize_i8: visit_i8 i8,
        deserialize_i16: visit_i16 i16,
        deserialize_i32: visit_i32 i32,
        deserialize_i64: visit_i64 i64,
        deserialize_i128: visit_i128 i128,
        deserialize_u8: visit_u8 u8,
        deserialize_u16: visit_u16 u16,
        deserialize_u32: visit_u32 u32,
        deserialize_u64: visit_u64 u64,
        deserialize_u128: visit_u128 u128,
        deserialize_f32: visit_f32 f32,
        deserialize_f64: visit_f64 f64,
    }

    fn deserialize_any<V: Visitor<'b>>(self, _: V) -> Result<V::Value, CodeError> {
        unknown()
    }

    fn deserialize_ignored_any<V: Visitor<'b>>(self, _: V) -> Result<V::Value, CodeError> {
        unknown()
    }

    fn deserialize_identifier<V: Visitor<'b>>(self, _: V) -> Result<V::Value, CodeError> {
        unknown()
    }

    fn deserialize_bool<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, CodeError> {
        visitor.visit_bool(self.bit()?)
    }

    fn deserialize_char<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, CodeError> {
        let number = u32::from_le_bytes(self.number()?);
        visitor.visit_char(char::try_from(number).map_err(de::Error::custom)?)
    }

    fn deserialize_str<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, CodeError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, CodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, CodeError> {
        let length = self.length()?;
        visitor.visit_borrowed_bytes(self.take(length)?)
    }

    fn deserialize_byte_buf<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, CodeError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, CodeError> {
        match self.bit()? {
            true => visitor.visit_some(self),
            false => visitor.visit_none(),
        }
    }

    fn deserialize_unit<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, CodeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, CodeError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, CodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, CodeError> {
        let left = self.length()?;
        visitor.visit_seq(Parts { reader: self, left })
    }

    fn deserialize_tuple<V: Visitor<'b>>(
        self,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, CodeError> {
        visitor.visit_seq(Parts { reader: self, left })
    }

    fn deserialize_tuple_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, CodeError> {
        self.deserialize_tuple(left, visitor)
    }

    fn deserialize_map<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, CodeError> {
        let left = self.length()?;
        visitor.visit_map(Parts { reader: self, left })
    }

    fn deserialize_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodeError> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'b>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodeError> {
        visitor.visit_enum(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Parts of something that are still to be read.
struct Parts<'r, 'b> {
    reader: &'r mut Reader<'b>,
    left: usize,
}

impl Parts<'_, '_> {
    fn next(&mut self) -> Option<&mut Self> {
        self.left = self.left.checked_sub(1)?;
        Some(self)
    }

    /// How much memory is asked for beforehand: each has a byte at least.
    fn hint(&self) -> usize {
        self.left.min(self.reader.0.len())
    }
}

impl<'b> SeqAccess<'b> for Parts<'_, 'b> {
    type Error = CodeError;

    fn next_element_seed<T: DeserializeSeed<'b>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, CodeError> {
        let next = self.next();
        next.map(|its| seed.deserialize(&mut *its.reader))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

impl<'b> MapAccess<'b> for Parts<'_, 'b> {
    type Error = CodeError;

    fn next_key_seed<K: DeserializeSeed<'b>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, CodeError> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'b>>(&mut self, seed: V) -> Result<V::Value, CodeError> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

impl<'b> EnumAccess<'b> for &mut Reader<'b> {
    type Error = CodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'b>>(self, seed: V) -> Result<(V::Value, Self), CodeError> {
        let number = u32::from_le_bytes(self.number()?);
        let number: U32Deserializer<CodeError> = number.into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'b> VariantAccess<'b> for &mut Reader<'b> {
    type Error = CodeError;

    fn unit_variant(self) -> Result<(), CodeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'b>>(self, seed: T) -> Result<T::Value, CodeError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'b>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, CodeError> {
        self.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'b>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodeError> {
        self.deserialize_tuple(fields.len(), visitor)
    }
}
