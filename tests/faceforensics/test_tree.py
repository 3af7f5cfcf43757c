import pytest

from addlib import faceforensics
from addlib.faceforensics.tree import identities


def plant(root, manipulations=("Deepfakes", "FaceSwap"), raw="raw"):
    """An empty-file tree of two pairs: names are all that discovery reads."""
    names = {"original_sequences/youtube": ["071", "054", "001", "002"]}
    names |= {f"manipulated_sequences/{name}": ["071_054", "054_071", "001_002", "002_001"] for name in manipulations}
    for folder, stems in names.items():
        for quality in (raw, "c23", "c40"):
            (root / folder / quality / "videos").mkdir(parents=True)
            for stem in stems:
                (root / folder / quality / "videos" / f"{stem}.mp4").touch()
    return root


@pytest.mark.parametrize("raw", ["raw", "c0"])
def test_whole_tree(tmp_path, raw):
    videos = faceforensics.discover(plant(tmp_path, faceforensics.MANIPULATIONS, raw))
    assert len(videos) == 4 * 6
    assert [video.manipulation for video in videos[:4]] == ["original"] * 4
    for video in videos:
        assert set(video.files) == {"raw", "c23", "c40"}
        assert video.files["raw"].parent.parent.name == raw
        assert video.label == (video.manipulation != "original")


def test_what_is_there_is_found_and_a_subset_can_be_asked_for(tmp_path):
    plant(tmp_path)
    assert {video.manipulation for video in faceforensics.discover(tmp_path)} == {"original", "Deepfakes", "FaceSwap"}
    few = faceforensics.discover(tmp_path, ["FaceSwap"], ("raw", "c40"))
    assert {video.manipulation for video in few} == {"original", "FaceSwap"}
    assert all(set(video.files) == {"raw", "c40"} for video in few)


def test_names_hold_target_and_source():
    assert identities("071") == ("071",)
    assert identities("071_054") == ("071", "054")
    assert identities("01_02__exit_phone_room__YVGY8LOK") == ("01", "02")


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="original_sequences"):
        faceforensics.discover(tmp_path)
    plant(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"FaceShifter.*holds \['Deepfakes', 'FaceSwap'\]"):
        faceforensics.discover(tmp_path, ["FaceShifter"])
    with pytest.raises(ValueError, match="c50"):
        faceforensics.discover(tmp_path, None, ("raw", "c50"))


def test_images_stand_for_a_missing_video(tmp_path):
    plant(tmp_path)
    youtube = tmp_path / "original_sequences/youtube"
    for quality in ("raw", "c40"):
        (youtube / quality / "images/071").mkdir(parents=True)
    (youtube / "c40/videos/071.mp4").unlink()
    files = next(video for video in faceforensics.discover(tmp_path) if video.name == "071").files
    assert files["raw"] == youtube / "raw/videos/071.mp4", "a video is taken before images of it"
    assert files["c40"] == youtube / "c40/images/071"


def test_files_that_are_no_videos_are_named(tmp_path):
    raw = plant(tmp_path) / "original_sequences/youtube/raw/videos"
    (raw / "._071.mp4").touch()
    assert len(faceforensics.discover(tmp_path)) == 4 * 3, "macOS leaves such files: no word about them"
    (raw / "notes.txt").touch()
    with pytest.warns(UserWarning, match=r"1 files are no videos.*notes\.txt"):
        assert len(faceforensics.discover(tmp_path)) == 4 * 3


@pytest.mark.parametrize("ending", [".MP4", ".Mp4", ".avi", ".mkv", ".MOV"])
def test_other_endings_of_videos_are_taken(tmp_path, ending):
    raw = plant(tmp_path) / "original_sequences/youtube/raw/videos"
    (raw / "071.mp4").rename(raw / f"071{ending}")
    (video,) = [video for video in faceforensics.discover(tmp_path) if video.name == "071"]
    assert video.files["raw"] == raw / f"071{ending}" and len(video.files) == 3
    (raw / "071.mp4").touch()
    with pytest.raises(ValueError, match=r"071.*and 071.*remove one"):
        faceforensics.discover(tmp_path)


def test_stamps_follow_the_files(tmp_path):
    plant(tmp_path)
    youtube = tmp_path / "original_sequences/youtube"
    (youtube / "raw/videos/071.mp4").unlink()
    (youtube / "raw/images/071").mkdir(parents=True)
    (youtube / "raw/images/071/0000.png").write_bytes(b"1")
    video = next(video for video in faceforensics.discover(tmp_path) if video.name == "071")
    before = video.stamps()
    assert before == video.stamps()
    (youtube / "raw/images/071/0001.png").write_bytes(b"1")
    (youtube / "c23/videos/071.mp4").write_bytes(b"1")
    after = video.stamps()
    assert {quality for quality in after if after[quality] != before[quality]} == {"raw", "c23"}
    (youtube / "c40/videos/071.mp4").unlink()
    assert video.stamps()["c40"] is None


def test_actors_come_with_deepfakedetection(tmp_path):
    for folder, name in (
        ("original_sequences/actors", "01__exit_phone_room"),
        ("manipulated_sequences/DeepFakeDetection", "01_02__exit_phone_room__YVGY8LOK"),
    ):
        (tmp_path / folder / "c23/videos").mkdir(parents=True)
        (tmp_path / folder / f"c23/videos/{name}.mp4").touch()
    videos = faceforensics.discover(tmp_path, ["DeepFakeDetection"])
    assert [(video.manipulation, video.label, video.ids) for video in videos] == [
        ("actors", 0, ("01",)),
        ("DeepFakeDetection", 1, ("01", "02")),
    ]
    plant(tmp_path, ("FaceSwap",))
    both = faceforensics.discover(tmp_path, ["FaceSwap", "DeepFakeDetection"])
    assert {video.manipulation for video in both} == {"original", "actors", "FaceSwap", "DeepFakeDetection"}


def test_face_shifter_is_one_of_the_five(tmp_path):
    plant(tmp_path, ("FaceShifter",))
    assert {video.manipulation for video in faceforensics.discover(tmp_path)} == {"original", "FaceShifter"}


@pytest.mark.parametrize("name", ["../original_sequences", "a/b", "..", "", "original"])
def test_hostile_manipulation_is_refused(tmp_path, name):
    plant(tmp_path)
    with pytest.raises(ValueError, match="no names of folders"):
        faceforensics.discover(tmp_path, [name])
