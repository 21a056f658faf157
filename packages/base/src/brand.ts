/** A nominal type: a `T` that only the function which proves the property may create. */
export type Brand<T, Name extends string> = T & { readonly __brand: Name };
