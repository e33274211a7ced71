#[allow(deprecated)]
const _: () = {
    use crate::reexport::__private as __p;
    #[automatically_derived]
    impl __p::cache::Cacheable for User
    where
        User: ::core::clone::Clone,
        i64: __p::model::ModelKey,
    {
        const SCHEMA: ::core::primitive::u64 = __p::cache::codec::schema(
            "app.users",
            &[
                ("id", <i64 as __p::field::Field>::LAYOUT),
                ("tenant", <i64 as __p::field::Field>::LAYOUT),
                ("email", <String as __p::field::Field>::LAYOUT),
            ],
        );
        fn write(
            &self,
            __out: &mut __p::cache::Encoder,
        ) -> ::core::result::Result<(), __p::cache::EncodeError> {
            <i64 as __p::field::Field>::encode(&self.id, __out)?;
            <i64 as __p::field::Field>::encode(&self.tenant, __out)?;
            <String as __p::field::Field>::encode(&self.email, __out)?;
            ::core::result::Result::Ok(())
        }
        fn read(
            __input: &mut __p::cache::Decoder<'_>,
        ) -> ::core::result::Result<Self, __p::cache::DecodeError> {
            ::core::result::Result::Ok(Self {
                id: <i64 as __p::field::Field>::decode(__input)?,
                tenant: <i64 as __p::field::Field>::decode(__input)?,
                email: <String as __p::field::Field>::decode(__input)?,
            })
        }
    }
    #[automatically_derived]
    impl __p::model::Model for User
    where
        User: ::core::clone::Clone,
        i64: __p::model::ModelKey,
    {
        type Key = i64;
        const TABLE: __p::model::TableDef = __p::model::TableDef {
            model: "User",
            schema: ::core::option::Option::Some("app"),
            name: "users",
            columns: &[
                __p::model::ColumnDef {
                    field: "id",
                    name: "id",
                    role: __p::model::Role::Key,
                },
                __p::model::ColumnDef {
                    field: "tenant",
                    name: "tenant",
                    role: __p::model::Role::Plain,
                },
                __p::model::ColumnDef {
                    field: "email",
                    name: "email",
                    role: __p::model::Role::Plain,
                },
            ],
            key: &[0usize],
            indexes: &[
                __p::model::IndexDef {
                    columns: &[1usize, 2usize],
                    unique: true,
                },
                __p::model::IndexDef {
                    columns: &[2usize],
                    unique: false,
                },
                __p::model::IndexDef {
                    columns: &[2usize, 1usize],
                    unique: false,
                },
            ],
            cache: __p::model::CacheMode::Local,
            prefix: ::core::option::Option::Some("people"),
            ttl: ::core::option::Option::Some(::core::time::Duration::from_secs(300u64)),
        };
        fn key(&self) -> Self::Key {
            <i64 as ::core::clone::Clone>::clone(&self.id)
        }
        fn before_create(&mut self, __now: __p::chrono::DateTime<__p::chrono::Utc>) {
            if <i64 as __p::model::ModelKey>::is_unset(&self.id) {
                if let ::core::option::Option::Some(__key) = <i64 as __p::model::ModelKey>::generate() {
                    self.id = __key;
                }
            }
        }
        fn before_update(&mut self, __now: __p::chrono::DateTime<__p::chrono::Utc>) {}
    }
    #[if_postgres]
    #[automatically_derived]
    impl __p::model::Persist<__p::sqlx::Postgres> for User
    where
        User: ::core::clone::Clone,
        i64: __p::model::ModelKey,
    {
        const TYPES: &'static [__p::column::SqlType] = &[
            <i64 as __p::field::Field>::POSTGRES_TYPE,
            <i64 as __p::field::Field>::POSTGRES_TYPE,
            <String as __p::field::Field>::POSTGRES_TYPE,
        ];
        fn bind(
            &self,
            __column: ::core::primitive::usize,
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            match __column {
                0usize => <i64 as __p::field::Field>::postgres_bind(&self.id, __args),
                1usize => <i64 as __p::field::Field>::postgres_bind(&self.tenant, __args),
                2usize => {
                    <String as __p::field::Field>::postgres_bind(&self.email, __args)
                }
                _ => {
                    ::core::result::Result::Err(
                        __p::field::no_such_column("User", __column),
                    )
                }
            }
        }
        fn bind_array(
            __rows: &[Self],
            __column: ::core::primitive::usize,
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            match __column {
                0usize => {
                    <i64 as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.id),
                        ),
                        __args,
                    )
                }
                1usize => {
                    <i64 as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.tenant),
                        ),
                        __args,
                    )
                }
                2usize => {
                    <String as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.email),
                        ),
                        __args,
                    )
                }
                _ => {
                    ::core::result::Result::Err(
                        __p::field::no_such_column("User", __column),
                    )
                }
            }
        }
        fn bind_key(
            __key: &Self::Key,
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <i64 as __p::field::Field>::postgres_bind(__key, __args)
        }
        fn bind_key_arrays(
            __keys: &[Self::Key],
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <i64 as __p::field::Field>::postgres_bind_array(
                ::core::iter::Iterator::map(
                    <[Self::Key]>::iter(__keys),
                    ::core::option::Option::Some,
                ),
                __args,
            )
        }
        fn from_row(
            __row: &<__p::sqlx::Postgres as __p::sqlx::Database>::Row,
        ) -> ::core::result::Result<Self, __p::sqlx::Error> {
            ::core::result::Result::Ok(Self {
                id: match <i64 as __p::field::Field>::postgres_read(__row, 0usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(0usize, "id"),
                        );
                    }
                },
                tenant: match <i64 as __p::field::Field>::postgres_read(__row, 1usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(1usize, "tenant"),
                        );
                    }
                },
                email: match <String as __p::field::Field>::postgres_read(
                    __row,
                    2usize,
                )? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(2usize, "email"),
                        );
                    }
                },
            })
        }
    }
    #[if_sqlite]
    #[automatically_derived]
    impl __p::model::Persist<__p::sqlx::Sqlite> for User
    where
        User: ::core::clone::Clone,
        i64: __p::model::ModelKey,
    {
        const TYPES: &'static [__p::column::SqlType] = &[
            <i64 as __p::field::Field>::SQLITE_TYPE,
            <i64 as __p::field::Field>::SQLITE_TYPE,
            <String as __p::field::Field>::SQLITE_TYPE,
        ];
        fn bind(
            &self,
            __column: ::core::primitive::usize,
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            match __column {
                0usize => <i64 as __p::field::Field>::sqlite_bind(&self.id, __args),
                1usize => <i64 as __p::field::Field>::sqlite_bind(&self.tenant, __args),
                2usize => <String as __p::field::Field>::sqlite_bind(&self.email, __args),
                _ => {
                    ::core::result::Result::Err(
                        __p::field::no_such_column("User", __column),
                    )
                }
            }
        }
        fn bind_array(
            __rows: &[Self],
            __column: ::core::primitive::usize,
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            match __column {
                0usize => {
                    <i64 as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.id),
                        ),
                        __args,
                    )
                }
                1usize => {
                    <i64 as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.tenant),
                        ),
                        __args,
                    )
                }
                2usize => {
                    <String as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.email),
                        ),
                        __args,
                    )
                }
                _ => {
                    ::core::result::Result::Err(
                        __p::field::no_such_column("User", __column),
                    )
                }
            }
        }
        fn bind_key(
            __key: &Self::Key,
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <i64 as __p::field::Field>::sqlite_bind(__key, __args)
        }
        fn bind_key_arrays(
            __keys: &[Self::Key],
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <i64 as __p::field::Field>::sqlite_bind_array(
                ::core::iter::Iterator::map(
                    <[Self::Key]>::iter(__keys),
                    ::core::option::Option::Some,
                ),
                __args,
            )
        }
        fn from_row(
            __row: &<__p::sqlx::Sqlite as __p::sqlx::Database>::Row,
        ) -> ::core::result::Result<Self, __p::sqlx::Error> {
            ::core::result::Result::Ok(Self {
                id: match <i64 as __p::field::Field>::sqlite_read(__row, 0usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(0usize, "id"),
                        );
                    }
                },
                tenant: match <i64 as __p::field::Field>::sqlite_read(__row, 1usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(1usize, "tenant"),
                        );
                    }
                },
                email: match <String as __p::field::Field>::sqlite_read(__row, 2usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(2usize, "email"),
                        );
                    }
                },
            })
        }
    }
};
