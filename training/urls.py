from django.urls import path

from training.views import checkpoints, evaluation, pipeline_runs, pipelines, run, runs

urlpatterns = [
    path("runs", runs.runs, name="runs"),
    path("runs/new/<slug:method>", runs.run_new, name="run_new"),
    path("runs/<int:pk>", run.run, name="run"),
    path("runs/<int:pk>/cancel", run.run_cancel, name="run_cancel"),
    path("runs/<int:pk>/retry", run.run_retry, name="run_retry"),
    path("runs/<int:pk>/log", run.run_log, name="run_log"),
    path("runs/<int:pk>/metrics.csv", run.run_metrics, name="run_metrics"),
    path("runs/<int:pk>/charts/<slug:key>.svg", run.run_chart, name="run_chart"),
    path("runs/<int:pk>/evaluation", evaluation.run_evaluation, name="run_evaluation"),
    path("pipelines", pipelines.pipelines, name="pipelines"),
    path("pipelines/new", pipelines.pipeline_new, name="pipeline_new"),
    path("pipelines/<int:pk>", pipelines.pipeline, name="pipeline"),
    path("pipelines/<int:pk>/edit", pipelines.pipeline_edit, name="pipeline_edit"),
    path("pipelines/<int:pk>/start", pipelines.pipeline_start, name="pipeline_start"),
    path("pipelines/<int:pk>/archive", pipelines.pipeline_archive, name="pipeline_archive"),
    path("pipelines/<int:pk>/triggers/<slug:kind>", pipeline_runs.pipeline_trigger_new, name="pipeline_trigger_new"),
    path("pipelines/triggers/<int:pk>", pipeline_runs.trigger, name="trigger"),
    path("pipelines/runs/<int:run_pk>", pipeline_runs.pipeline_run, name="pipeline_run"),
    path("pipelines/runs/<int:run_pk>/cancel", pipeline_runs.pipeline_run_cancel, name="pipeline_run_cancel"),
    path("pipelines/runs/<int:run_pk>/resume", pipeline_runs.pipeline_run_resume, name="pipeline_run_resume"),
    path("checkpoints", checkpoints.checkpoints, name="checkpoints"),
    path("checkpoints/add", checkpoints.checkpoint_add, name="checkpoint_add"),
    path("checkpoints/<int:pk>", checkpoints.checkpoint, name="checkpoint"),
    path("checkpoints/<int:pk>/promote", checkpoints.checkpoint_promote, name="checkpoint_promote"),
]
