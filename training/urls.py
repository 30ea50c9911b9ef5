from django.urls import path

from training.views import checkpoints, run, runs

urlpatterns = [
    path("runs", runs.runs, name="runs"),
    path("runs/new/<slug:method>", runs.run_new, name="run_new"),
    path("runs/<int:pk>", run.run, name="run"),
    path("runs/<int:pk>/cancel", run.run_cancel, name="run_cancel"),
    path("runs/<int:pk>/retry", run.run_retry, name="run_retry"),
    path("runs/<int:pk>/log", run.run_log, name="run_log"),
    path("runs/<int:pk>/metrics.csv", run.run_metrics, name="run_metrics"),
    path("runs/<int:pk>/charts/<slug:key>.svg", run.run_chart, name="run_chart"),
    path("checkpoints", checkpoints.checkpoints, name="checkpoints"),
    path("checkpoints/add", checkpoints.checkpoint_add, name="checkpoint_add"),
    path("checkpoints/<int:pk>", checkpoints.checkpoint, name="checkpoint"),
    path("checkpoints/<int:pk>/promote", checkpoints.checkpoint_promote, name="checkpoint_promote"),
]
