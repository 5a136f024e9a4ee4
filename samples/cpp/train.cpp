// Trains in an artifacts directory of tgdonnx, and writes the tuned model: `tgdonnx guide step` in C++17. See README.md.
#include <onnxruntime_cxx_api.h>
#include <openssl/evp.h>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <regex>
namespace fs = std::filesystem;
using nlohmann::json;
using Tensors = std::map<std::string, Ort::Value>;  // in the order of the bytes of names, which is that of code points
constexpr auto FLOAT = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, INT64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
[[noreturn]] void fail(const std::string& message) { throw std::runtime_error(message); }
std::string contentOf(const fs::path& path) {
  if (std::ifstream file(path, std::ios::binary); file) return {std::istreambuf_iterator<char>(file), {}};
  fail(path.string() + " cannot be read");
}
void replace(const fs::path& path, const std::string& content) {  // it is there whole or not at all
  const fs::path beside = path.string() + ".tmp";
  fs::create_directories(path.parent_path());
  if (!(std::ofstream(beside, std::ios::binary) << content).flush()) fail(path.string() + " cannot be written");
  fs::rename(beside, path);
}
Ort::Value tensorOf(const void* bytes, const std::vector<int64_t>& shape, ONNXTensorElementDataType type = FLOAT) {
  Ort::AllocatorWithDefaultOptions allocator;
  auto tensor = Ort::Value::CreateTensor(allocator, shape.data(), shape.size(), type);
  std::memcpy(tensor.GetTensorMutableRawData(), bytes, tensor.GetTensorSizeInBytes());
  return tensor;
}
std::string_view bytesOf(const Ort::Value& tensor) { return {tensor.GetTensorData<char>(), tensor.GetTensorSizeInBytes()}; }
std::vector<int64_t> shapeOf(const Ort::Value& tensor) { return tensor.GetTensorTypeAndShapeInfo().GetShape(); }

std::string hashOf(const json& metadata, const Tensors& tensors) {  // JSON as Python writes it: printable ASCII, ", ", ": "
  auto ascii = [](const json& text) { return text.dump(-1, ' ', true); };
  std::string all, hex;
  for (auto& [key, value] : metadata.items())
    if (key != "tgdonnx.sha256") all += (all.empty() ? "{" : ", ") + ascii(key) + ": " + ascii(value);
  all += "}";
  for (auto& [name, tensor] : tensors) {
    std::string sizes = std::regex_replace(json(shapeOf(tensor)).dump(), std::regex(","), ", ");
    all.append("[" + ascii(name) + ", \"<f4\", " + sizes + "]").append(bytesOf(tensor));
  }
  unsigned char digest[32];
  EVP_Digest(all.data(), all.size(), digest, nullptr, EVP_sha256(), nullptr);
  for (int k = 0; k < 64; k++) hex += "0123456789abcdef"[digest[k / 2] >> (k % 2 ? 0 : 4) & 15];
  return hex;
}

int64_t readState(const fs::path& path, Tensors& tensors) {  // returns how often it was updated
  std::string data = contentOf(path);
  size_t start = 8 + *reinterpret_cast<const uint64_t*>(data.data());
  json header = json::parse(data.begin() + 8, data.begin() + start);
  const json metadata = header["__metadata__"];
  for (auto& [name, entry] : header.items())
    if (entry != metadata) tensors.emplace(name, tensorOf(&data[start + size_t(entry["data_offsets"][0])], entry["shape"]));
  if (hashOf(metadata, tensors) != metadata["tgdonnx.sha256"]) fail(path.string() + " is not as it was written; build again");
  return std::stoll(metadata["tgdonnx.updates"].get<std::string>());
}
void writeState(const fs::path& path, const Tensors& tensors, int64_t updates) {
  json metadata{{"tgdonnx.format", "1"}, {"tgdonnx.updates", std::to_string(updates)}};
  metadata["tgdonnx.sha256"] = hashOf(metadata, tensors);
  json header{{"__metadata__", metadata}};
  std::string numbers;
  for (auto& [name, tensor] : tensors) {
    size_t begin = numbers.size(), end = numbers.append(bytesOf(tensor)).size();
    header[name] = {{"dtype", "F32"}, {"shape", shapeOf(tensor)}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  const uint64_t size = text.append(-text.size() % 8, ' ').size();
  replace(path, std::string(reinterpret_cast<const char*>(&size), 8) + text + numbers);
}

Ort::Value readArray(const fs::path& path, bool labels) {  // of a .npy file: samples along the first axis
  std::string data = contentOf(path), kind = labels ? "<i8" : "<f4";
  std::regex header("^.+'" + kind + "', 'fortran_order': False, 'shape': \\((\\d[\\d, ]*?),?\\)");
  std::smatch found;
  if (!std::regex_search(data, found, header)) fail(path.string() + ": expected samples of type " + kind + " in C order");
  return tensorOf(&data[data.find('\n') + 1], json::parse("[" + found[1].str() + "]"), labels ? INT64 : FLOAT);
}

void exportTuned(const json& manifest, const Tensors& tensors, const fs::path& vendor, const fs::path& out) {
  std::map<json, std::string> files{{nullptr, contentOf(vendor)}};  // by the names of files with external data
  for (auto& tensor : manifest["trained"]) {
    const json &stored = tensor["write_back"]["stored"], &name = stored["location"];
    if (!files.count(name)) files[name] = contentOf(vendor.parent_path() / name.get<std::string>());
    std::vector<size_t> places{0}, held, next;  // of the parameter's elements in the whole tensor, row-major
    for (size_t axis = 0; axis < tensor["shape"].size(); axis++, places = std::exchange(next, {})) {
      held.resize(tensor["shape"][axis]);
      std::iota(held.begin(), held.end(), 0);
      for (auto& along : tensor["part"])
        if (along["axis"] == axis) held = along["indices"].get<std::vector<size_t>>();
      for (size_t place : places)
        for (size_t index : held) next.push_back(place * tensor["shape"][axis].get<size_t>() + index);
    }
    char* whole = &files[name][stored["offset"]];
    for (size_t k = 0; k < places.size(); k++) bytesOf(tensors.at(tensor["name"])).copy(whole + 4 * places[k], 4, 4 * k);
  }
  for (auto& [name, content] : files) replace(out / (name.is_null() ? "tuned.onnx" : name.get<std::string>()), content);
}

int main(int count, char** given) try {
  if (count != 7 || std::atoi(given[4]) < 1 || std::atoi(given[5]) < 1 || !(std::atof(given[6]) > 0))
    fail("usage: train RUN DATA OUT STEPS BATCH LEARNING_RATE, with numbers above 0");
  const fs::path run = given[1], data = given[2], out = given[3];
  const int64_t steps = std::atoi(given[4]), batch = std::atoi(given[5]);
  const float rate = std::atof(given[6]);
  const json manifest = json::parse(contentOf(run / "manifest.json"));
  for (auto& tensor : manifest["trained"])
    if (tensor["write_back"]["how"] != "copied") fail(tensor["name"].dump() + " is more than copied: use `tgdonnx export`");
  if (fs::exists(out)) fail(out.string() + " exists; choose another name");
  Ort::Env environment;
  Ort::Session session(environment, (run / "step.onnx").c_str(), Ort::SessionOptions());
  Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Tensors state, arrays;
  int64_t updates = readState(run / "state.safetensors", state), batches = INT64_MAX;
  for (auto& spec : manifest["inputs"]) {  // the first inputs of the file, in this order
    Ort::Value array = readArray(data / (spec["name"].get<std::string>() + ".npy"), spec["dtype"] == "int64");
    if (!(batches = std::min(batches, shapeOf(array)[0] / batch))) fail(data.string() + " has fewer samples than a batch");
    arrays.emplace(session.GetInputNames()[arrays.size()], std::move(array));
  }
  for (int64_t done = 0; done < steps; done++) {
    Ort::IoBinding binding(session);
    for (auto& [name, array] : arrays) {
      auto shape = shapeOf(array);
      size_t size = bytesOf(array).size() / std::exchange(shape[0], batch) * batch;
      auto type = array.GetTensorTypeAndShapeInfo().GetElementType();
      binding.BindInput(name.c_str(), tensorOf(&bytesOf(array)[done % batches * size], shape, type));
    }
    binding.BindInput("tgdonnx::learning_rate", tensorOf(&rate, {}));
    binding.BindInput("tgdonnx::step", tensorOf(&++updates, {}, INT64));
    for (auto& [name, tensor] : state) binding.BindInput(name.c_str(), tensor);
    binding.BindOutput("loss", memory);
    for (auto& [name, tensor] : state) binding.BindOutput((name + ".after").c_str(), memory);
    session.Run(Ort::RunOptions(), binding);
    std::vector<Ort::Value> found = binding.GetOutputValues();  // as they were bound
    const float loss = *found[0].GetTensorData<float>();
    if (!std::isfinite(loss)) fail("the loss is not finite: nothing is written; take a smaller learning rate");
    for (auto& [name, tensor] : state) tensor = std::move(found[1 + std::distance(state.begin(), state.find(name))]);
    std::cout << json{{"step", updates}, {"loss", loss}} << "\n";
  }
  writeState(run / "state.safetensors", state, updates);
  fs::remove(run / "state.best.safetensors");  // of an earlier run; `tgdonnx export` would prefer it
  exportTuned(manifest, state, run / "vendor.onnx", out);
} catch (const std::exception& error) {
  return std::cerr << "error: " << error.what() << "\n", 2;
}
