"""GET /models and /models/{model_id}: the models that a request may name."""

from turnlog.entrypoints.http import Api, models

handler = Api({("GET", "/models"): models.list_models, ("GET", "/models/{model_id}"): models.get_model})
