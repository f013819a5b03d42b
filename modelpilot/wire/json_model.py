"""Base of every JSON body of our own API: camelCase outside, snake_case inside, nothing unknown, nothing coerced."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class WireModel(BaseModel):
    """A camelCase JSON body that rejects unknown fields, coercion, NaN and infinity."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        frozen=True,
        protected_namespaces=(),
    )

    def to_wire(self) -> dict[str, object]:
        """The camelCase JSON object of this body."""
        return self.model_dump(mode="json", by_alias=True)


class ResourceBody(WireModel):
    """The body of a resource, something that people name and administer: unique by owner and `id`."""

    id: str
